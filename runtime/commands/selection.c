#include "selection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "commands_sql.h"
#include "duration.h"
#include "memory.h"

struct state_row {
  const char *name;
  enum job_state state;
};

static const struct state_row states[] = {
    {"due", JOB_DUE},       {"running", JOB_RUNNING},     {"later", JOB_LATER},
    {"failed", JOB_FAILED}, {"completed", JOB_COMPLETED}, {"cancelled", JOB_CANCELLED},
};

enum { STATES = sizeof states / sizeof states[0] };

/* Reads the names of --state. Returns the bits, or 0 after printing a message. */
static unsigned read_states(const char *text, const char *command) {
  unsigned bits = 0;
  while (true) {
    size_t length = strcspn(text, ","), i = 0;
    while (i < STATES && (strlen(states[i].name) != length || strncmp(text, states[i].name, length) != 0))
      i++;
    if (i == STATES) {
      fprintf(stderr, "pgq-lua %s: --state: '%.*s' is not one of: due running later failed completed cancelled\n",
              command, (int)(length < 100 ? length : 100), text);
      return 0;
    }
    bits |= states[i].state;
    if (text[length] == '\0')
      return bits;
    text += length + 1;
  }
}

/* A text without % and _ is looked for anywhere in the error; then a backslash in it means itself. */
static char *make_pattern(const char *text) {
  struct buffer pattern = {0};
  if (strpbrk(text, "%_"))
    return memory_text(text);
  buffer_add(&pattern, "%", 1);
  for (; *text; text++) {
    if (*text == '\\')
      buffer_add(&pattern, "\\", 1);
    buffer_add(&pattern, text, 1);
  }
  buffer_add(&pattern, "%", 2); /* with the NUL */
  return (char *)pattern.bytes;
}

void selection_explain_none(const struct selection *selection, const char *command) {
  const char *text = selection->options->error;
  if (text && *text && strpbrk(text, "%_") && (text[0] != '%' || text[strlen(text) - 1] != '%'))
    fprintf(stderr,
            "pgq-lua %s: note: a pattern with %% or _ must match the whole error; to look for a part, write %% at both "
            "ends, and \\%% or \\_ for the character itself\n",
            command);
}

/* In an LIKE pattern a backslash stands in front of the character that it makes an ordinary one. */
static int check_pattern(const char *text, const char *command) {
  size_t length = strlen(text), backslashes = 0;
  while (strpbrk(text, "%_") && backslashes < length && text[length - backslashes - 1] == '\\')
    backslashes++;
  if (backslashes % 2 == 0)
    return 0;
  fprintf(stderr,
          "pgq-lua %s: --error: '%.100s' ends with a backslash, which has nothing to quote; write two of them for a "
          "backslash\n",
          command, text);
  return -1;
}

static int read_meta(struct selection *selection, const char *text, const char *command) {
  const char *equals = strchr(text, '=');
  if (!equals || equals == text) {
    fprintf(stderr,
            "pgq-lua %s: --meta: '%.100s' is not KEY=VALUE; write the name of a field of meta and its value, such as "
            "user=7\n",
            command, text);
    return -1;
  }
  selection->meta_key = memory_text(text);
  selection->meta_key[equals - text] = '\0';
  selection->meta_value = memory_text(equals + 1);
  return 0;
}

int selection_read(struct selection *selection, const struct options *options, const char *command) {
  *selection =
      (struct selection){.queue = options->queue, .all = options->all, .limit = options->limit, .options = options};
  selection->any =
      options->queue || options->state || options->error || options->since || options->before || options->meta;
  if (options->state && (selection->states = read_states(options->state, command)) == 0)
    return -1;
  if (options->meta && read_meta(selection, options->meta, command) != 0)
    return -1;
  if (options->error && check_pattern(options->error, command) != 0)
    return -1;
  if (options->error)
    selection->pattern = make_pattern(options->error);
  return 0;
}

/* A time is a duration before now, for which `interval` becomes its text; or anything else, which the database reads.
 */
static const char *read_time(const char *text, char interval[DURATION_TEXT_SIZE + 16]) {
  const char *problem;
  int64_t ms;
  if (text && duration_parse_days(text, strlen(text), &ms, &problem) == 0) {
    snprintf(interval, DURATION_TEXT_SIZE + 16, "%lld milliseconds", (long long)ms);
    return NULL;
  }
  return text;
}

static char *take_text(const PGresult *result, int column) {
  return PQgetisnull(result, 0, column) ? NULL : memory_text(PQgetvalue(result, 0, column));
}

/* Resolves the value of an option, which may be NULL, and the time now. Returns 0, or -1 after printing a message. */
static int resolve(struct transaction *transaction, const char *option, const char *value, char **time, char **now) {
  char ago[DURATION_TEXT_SIZE + 16] = "";
  const char *text = read_time(value, ago);
  transaction->option = text ? option : NULL;
  transaction->value = text;
  transaction->value_help = "how long ago, such as 1h30m or 7d, or " TRANSACTION_TIME_HELP;
  PGresult *result = transaction_ask(transaction, SQL_RESOLVE_TIME, 2, (const char *[]){text, *ago ? ago : NULL});
  transaction->option = NULL;
  if (!result)
    return -1;
  *time = take_text(result, 0);
  free(*now);
  *now = take_text(result, 1);
  PQclear(result);
  return 0;
}

int selection_resolve(struct selection *selection, struct transaction *transaction) {
  const struct options *options = selection->options;
  if (resolve(transaction, "--since", options->since, &selection->since, &selection->now) != 0)
    return -1;
  return resolve(transaction, "--before", options->before, &selection->before, &selection->now);
}

void selection_states(unsigned bits, char *text, size_t size) {
  size_t length = 0;
  for (size_t i = 0; i < STATES; i++)
    if (bits & states[i].state)
      length += (size_t)snprintf(text + length, size - length, "%s%s", length ? "," : "{", states[i].name);
  snprintf(text + length, size - length, "%s", length ? "}" : "{}");
}

/* Adds " --NAME VALUE", with quotes around a value that a shell would not take as one word. */
static void describe(struct buffer *text, const char *name, const char *value) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.,:/@%=";
  if (!value)
    return;
  bool quoted = value[strspn(value, plain)] != '\0' || *value == '\0';
  if (text->length > 0)
    buffer_add(text, " ", 1);
  buffer_add(text, name, strlen(name));
  buffer_add(text, " '", quoted ? 2 : 1);
  for (; *value; value++) {
    if (*value == '\'')
      buffer_add(text, "'\\'", 3);
    buffer_add(text, value, 1);
  }
  buffer_add(text, "'", quoted);
}

char *selection_describe(const struct selection *selection) {
  const struct options *options = selection->options;
  struct buffer text = {0};
  char limit[24];
  snprintf(limit, sizeof limit, "%lld", (long long)selection->limit);
  describe(&text, "--queue", options->queue);
  describe(&text, "--state", options->state);
  describe(&text, "--error", options->error);
  describe(&text, "--since", selection->since);
  describe(&text, "--before", selection->before);
  describe(&text, "--meta", options->meta);
  describe(&text, "--limit", selection->limit ? limit : NULL);
  if (selection->all && text.length == 0)
    buffer_add(&text, "--all", strlen("--all"));
  buffer_add(&text, "", 1);
  return (char *)text.bytes;
}

void selection_free(struct selection *selection) {
  free(selection->pattern);
  free(selection->since);
  free(selection->before);
  free(selection->now);
  free(selection->meta_key);
  free(selection->meta_value);
  *selection = (struct selection){0};
}
