#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "address.h"
#include "duration.h"
#include "memory.h"
#include "option_rows.h"

enum option_source { SOURCE_DEFAULT, SOURCE_SCRIPT, SOURCE_ENVIRONMENT, SOURCE_FLAG };

static int fail(struct option_problem *problem, const char *what, const char *value, const char *why) {
  snprintf(problem->message, sizeof problem->message, "%s: '%.100s' %s", what, value, why);
  return -1;
}

static int parse_flag(const char *text, bool *value, const char **why) {
  static const char *const words[] = {"0", "1", "false", "true", "no", "yes", "off", "on"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strcasecmp(text, words[i]) == 0) {
      *value = i % 2;
      return 0;
    }
  *why = "is neither true nor false; write one of these";
  return -1;
}

static int parse_integer(const struct option_row *row, const char *text, int64_t *value, const char **why) {
  static char expected[128];
  char *end;
  errno = 0;
  *value = strtoll(text, &end, 10);
  if (*text && *end == '\0' && errno == 0)
    return 0;
  snprintf(expected, sizeof expected,
           row->most == INT64_MAX ? "is not a whole number; write one from %lld on"
                                  : "is not a whole number; write one from %lld to %lld",
           (long long)row->least, (long long)row->most);
  *why = expected;
  return -1;
}

/* Reads a number of bytes, or of kibi-, mebi- or gibibytes if K, M or G follows. */
static int parse_size(const char *text, int64_t *value, const char **why) {
  static const char units[] = "KMG";
  char *end;
  errno = 0;
  *value = strtoll(text, &end, 10);
  const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
  if (end > text && errno == 0 && (*end == '\0' || (unit && end[1] == '\0')) && *value >= 0 &&
      *value < INT64_MAX >> 31) {
    *value <<= unit ? 10 * (unit - units + 1) : 0;
    return 0;
  }
  *why = "is not a size; write bytes, or 512M, 2G";
  return -1;
}

/* Reads the value of --keep-attempts: a duration, "all", or "all," and a duration. */
static int parse_history(const char *text, bool *all, int64_t *ms, const char **why) {
  enum { KEPT_MS = 7 * 24 * 3600 * 1000 };
  *all = strncmp(text, "all", 3) == 0 && (text[3] == '\0' || text[3] == ',');
  if (*all && text[3] == '\0') {
    *ms = KEPT_MS;
    return 0;
  }
  text += *all ? 4 : 0;
  return duration_parse_days(text, strlen(text), ms, why);
}

static int parse_choice(const struct option_row *row, const char *text, int *value, const char **why) {
  static char expected[128];
  size_t length = (size_t)snprintf(expected, sizeof expected, "is not one of:");
  for (int i = 0; row->choices[i]; i++) {
    if (strcmp(text, row->choices[i]) == 0) {
      *value = i;
      return 0;
    }
    length += (size_t)snprintf(expected + length, sizeof expected - length, " %s", row->choices[i]);
  }
  *why = expected;
  return -1;
}

static int check_range(const struct option_row *row, int64_t value, const char **why) {
  static char expected[128];
  char least[DURATION_TEXT_SIZE], most[DURATION_TEXT_SIZE];
  if ((value >= row->least || (row->kind == OPTION_SIZE && value == 0)) && value <= row->most)
    return 0;
  if (row->kind == OPTION_SIZE) {
    snprintf(expected, sizeof expected, "is less than %lldM; 0 is no limit", (long long)row->least >> 20);
    *why = expected;
    return -1;
  }
  if (row->kind == OPTION_DURATION || row->kind == OPTION_HISTORY) {
    duration_format(row->least, least);
    duration_format(row->most, most);
  } else {
    snprintf(least, sizeof least, "%lld", (long long)row->least);
    snprintf(most, sizeof most, "%lld", (long long)row->most);
  }
  snprintf(expected, sizeof expected, "is not between %s and %s", least, most);
  *why = expected;
  return -1;
}

/* Parses `text` into the field of `row`. `what` names the source of the text in the message. */
static int assign(const struct option_row *row, struct options *options, const char *what, const char *text,
                  struct option_problem *problem) {
  void *field = (char *)options + row->offset;
  const char *why = NULL;
  struct address address;
  int64_t number = 0;
  switch (row->kind) {
  case OPTION_FLAG:
    return parse_flag(text, field, &why) == 0 ? 0 : fail(problem, what, text, why);
  case OPTION_CHOICE:
    return parse_choice(row, text, field, &why) == 0 ? 0 : fail(problem, what, text, why);
  case OPTION_TEXT:
    free(*(char **)field);
    *(char **)field = memory_text(text);
    return 0;
  case OPTION_ADDRESS:
    if (*text && address_parse(text, &address, &why) != 0) /* "" turns a server off that the environment asks for */
      return fail(problem, what, text, why);
    free(*(char **)field);
    *(char **)field = memory_text(text);
    return 0;
  case OPTION_HISTORY:
  case OPTION_DURATION:
    if ((row->kind == OPTION_HISTORY ? parse_history(text, &options->keep_all_attempts, &number, &why)
                                     : duration_parse_days(text, strlen(text), &number, &why)) != 0) {
      char hint[160];
      snprintf(hint, sizeof hint, "%s; write seconds, or a duration such as %s", why,
               row->kind == OPTION_HISTORY ? "7d, all, or both: all,7d" : "1h30m, 10s or 250ms");
      return fail(problem, what, text, hint);
    }
    break;
  case OPTION_SIZE:
    if (parse_size(text, &number, &why) != 0)
      return fail(problem, what, text, why);
    break;
  case OPTION_INTEGER:
    if (parse_integer(row, text, &number, &why) != 0)
      return fail(problem, what, text, why);
    break;
  }
  if (check_range(row, number, &why) != 0)
    return fail(problem, what, text, why);
  *(int64_t *)field = number;
  return 0;
}

void options_init(struct options *options) {
  struct option_problem problem;
  *options = (struct options){.delay_ms = -1};
  for (size_t i = 0; i < option_row_count; i++)
    if (option_rows[i].initial &&
        assign(&option_rows[i], options, option_rows[i].name, option_rows[i].initial, &problem) != 0)
      abort(); /* the table itself is wrong */
}

void options_free(struct options *options) {
  free(options->db);
  free(options->listen);
  free(options->after);
  free(options->retry_waits);
  free(options->queue);
  free(options->state);
  free(options->error);
  free(options->since);
  free(options->before);
  free(options->meta);
  free(options->reason);
  free(options->new_data);
  free(options->data_file);
  *options = (struct options){.delay_ms = -1};
}

/* Assigns, unless a source of higher precedence has done so. */
static int set(struct options *options, size_t i, enum option_source source, const char *what, const char *text,
               struct option_problem *problem) {
  if (options->source[i] > source)
    return 0;
  if (assign(&option_rows[i], options, what, text, problem) != 0)
    return -1;
  options->source[i] = (unsigned char)source;
  return 0;
}

int options_from_environment(struct options *options, struct option_problem *problem) {
  for (size_t i = 0; i < option_row_count; i++) {
    const char *value = option_rows[i].environment ? getenv(option_rows[i].environment) : NULL;
    if (value && *value && set(options, i, SOURCE_ENVIRONMENT, option_rows[i].environment, value, problem) != 0)
      return -1;
  }
  return 0;
}

/* Whether another row with the same name comes before row `i`: one that belongs to the command, or else the first. */
static bool is_hidden(size_t i, enum command command) {
  bool is_ours = option_rows[i].commands & (int)command;
  for (size_t j = 0; j < option_row_count; j++) {
    bool is_other_ours = option_rows[j].commands & (int)command;
    if (j != i && strcmp(option_rows[j].name, option_rows[i].name) == 0 &&
        (is_other_ours > is_ours || (is_other_ours == is_ours && j < i)))
      return true;
  }
  return false;
}

int options_from_arguments(struct options *options, int argc, char **argv, enum command command, bool mixed,
                           struct option_problem *problem) {
  struct option table[sizeof options->source + 1] = {0};
  size_t rows[sizeof options->source], count = 0;
  int found, row;
  for (size_t i = 0; i < option_row_count; i++)
    if (!is_hidden(i, command)) {
      table[count] =
          (struct option){.name = option_rows[i].name, .has_arg = option_rows[i].kind != OPTION_FLAG, .val = 'o'};
      rows[count++] = i;
    }
  optind = 0; /* glibc: resets getopt_long() */
  opterr = 0;
  while ((found = getopt_long(argc, argv, mixed ? ":" : "+:", table, &row)) != -1) {
    char what[64];
    if (found == ':')
      snprintf(problem->message, sizeof problem->message, "option '%.100s' needs a value", argv[optind - 1]);
    else if (found != 'o')
      snprintf(problem->message, sizeof problem->message, "unknown option '%.100s'", argv[optind - 1]);
    if (found != 'o')
      return -1;
    snprintf(what, sizeof what, "--%s", table[row].name);
    if (set(options, rows[row], SOURCE_FLAG, what, optarg ? optarg : "true", problem) != 0)
      return -1;
  }
  return optind;
}

static bool same_name(const char *row_name, const char *script_name) {
  for (; *row_name && *script_name; row_name++, script_name++)
    if (*row_name != *script_name && !(*row_name == '-' && *script_name == '_'))
      return false;
  return *row_name == *script_name;
}

int options_from_script(struct options *options, const char *name, const char *value, struct option_problem *problem) {
  size_t length = 0;
  for (size_t i = 0; i < option_row_count; i++) {
    if (!option_rows[i].script || !same_name(option_rows[i].name, name))
      continue;
    if (options)
      return set(options, i, SOURCE_SCRIPT, name, value, problem);
    struct options scratch = {0};
    int result = assign(&option_rows[i], &scratch, name, value, problem);
    options_free(&scratch);
    return result;
  }
  length = (size_t)snprintf(problem->message, sizeof problem->message,
                            "there is no setting '%.60s'; the settings are:", name);
  for (size_t i = 0; i < option_row_count; i++)
    if (option_rows[i].script && length < sizeof problem->message) {
      char *at = problem->message + length;
      length += (size_t)snprintf(at, sizeof problem->message - length, " %s", option_rows[i].name);
      for (; *at; at++)
        *at = *at == '-' ? '_' : *at;
    }
  return -1;
}

/* The names of the commands, by the numbers of their bits. */
/* clang-format off */
static const char *const command_names[] = {
    "a worker",
    "pgq-lua enqueue",
    "pgq-lua migrate",
    "pgq-lua dev",
    "pgq-lua cancel",
    "pgq-lua retry",
    "pgq-lua delete",
    "pgq-lua edit",
    "pgq-lua pause",
    "pgq-lua resume",
    "pgq-lua jobs",
    "pgq-lua queues",
    "pgq-lua show",
    "pgq-lua workers",
    "pgq-lua stats",
    "pgq-lua why",
    "pgq-lua doctor",
    "pgq-lua quiet",
    "pgq-lua stop",
    "pgq-lua reload",
    "pgq-lua top",
};
/* clang-format on */

const char *options_command_name(int bit) {
  return (size_t)bit < sizeof command_names / sizeof command_names[0] ? command_names[bit] : NULL;
}

int options_check_command(const struct options *options, enum command command, struct option_problem *problem) {
  for (size_t i = 0; i < option_row_count; i++)
    if (options->source[i] == SOURCE_FLAG && !(option_rows[i].commands & command)) {
      snprintf(problem->message, sizeof problem->message, "option '--%s' is for %s only", option_rows[i].name,
               options_command_name(__builtin_ctz((unsigned)option_rows[i].commands)));
      return -1;
    }
  return 0;
}

bool options_forced(const struct options *options, const char *name) {
  for (size_t i = 0; i < option_row_count; i++)
    if (strcmp(option_rows[i].name, name) == 0)
      return options->source[i] >= SOURCE_ENVIRONMENT;
  abort(); /* a name that is not in the table */
}

enum { VALUE_SIZE = 64 };

/* Writes the value of an option as a user would. Returns whether it is a word. */
static bool value_text(const struct option_row *row, const struct options *options, char text[static VALUE_SIZE]) {
  const void *field = (const char *)options + row->offset;
  switch (row->kind) {
  case OPTION_FLAG:
    snprintf(text, VALUE_SIZE, "%s", *(const bool *)field ? "true" : "false");
    return false;
  case OPTION_INTEGER:
  case OPTION_SIZE:
    snprintf(text, VALUE_SIZE, "%lld", (long long)*(const int64_t *)field);
    return false;
  case OPTION_CHOICE:
    snprintf(text, VALUE_SIZE, "%s", row->choices[*(const int *)field]);
    return true;
  case OPTION_HISTORY:
    snprintf(text, VALUE_SIZE, "%s", options->keep_all_attempts ? "all," : "");
    duration_format(*(const int64_t *)field, text + strlen(text));
    return true;
  case OPTION_DURATION:
    duration_format(*(const int64_t *)field, text);
    return true;
  case OPTION_ADDRESS:
  case OPTION_TEXT:
    break;
  }
  snprintf(text, VALUE_SIZE, "%s", *(char *const *)field ? *(char *const *)field : "");
  return true;
}

void options_each_changed(const struct options *options,
                          void (*each)(void *context, const char *name, const char *value, bool is_word),
                          void *context) {
  struct options defaults;
  options_init(&defaults);
  for (size_t i = 0; i < option_row_count; i++) {
    const struct option_row *row = &option_rows[i];
    char value[VALUE_SIZE], initial[VALUE_SIZE];
    if (options->source[i] == SOURCE_DEFAULT || row->kind == OPTION_TEXT || !(row->commands & COMMAND_WORKER))
      continue;
    bool is_word = value_text(row, options, value);
    value_text(row, &defaults, initial);
    if (strcmp(value, initial) != 0)
      each(context, row->name, value, is_word);
  }
  options_free(&defaults);
}

void options_print_text(FILE *out, int indent, const char *text) {
  enum { MARGIN = 80 };
  int column = 0;
  while (*text) {
    size_t bytes = strcspn(text, " ");
    int width = 0; /* in characters: UTF-8 continuation bytes take no column */
    for (size_t i = 0; i < bytes; i++)
      width += (text[i] & 0xc0) != 0x80;
    if (column == 0 || column + 1 + width > MARGIN) {
      fprintf(out, "%s%*s", column ? "\n" : "", indent, "");
      column = indent;
    } else {
      fputc(' ', out);
      column++;
    }
    fwrite(text, 1, bytes, out);
    column += width;
    text += bytes + (text[bytes] == ' ');
  }
  fputc('\n', out);
}

void options_print(FILE *out, enum command command) {
  enum { INDENT = 8 };
  for (size_t i = 0; i < option_row_count; i++) {
    const struct option_row *row = &option_rows[i];
    if (!(row->commands & command))
      continue;
    fprintf(out, "  --%s%s%s", row->name, row->argument ? " " : "", row->argument ? row->argument : "");
    if (row->initial && row->kind != OPTION_FLAG)
      fprintf(out, " (default %s)", row->initial);
    if (row->environment)
      fprintf(out, " [%s]", row->environment);
    fputc('\n', out);
    options_print_text(out, INDENT, row->help);
  }
}
