/*
 * option_list COMMAND: prints the options of a command as Markdown, from the table that the program itself reads. The
 * pages of the manual contain this text between two markers; `cmake --build build --target manual` renews it.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "option_rows.h"
#include "options.h"

struct command_name {
  const char *name;
  enum command command;
};

static const struct command_name command_names[] = {
    {"worker", COMMAND_WORKER}, {"enqueue", COMMAND_ENQUEUE}, {"cancel", COMMAND_CANCEL}, {"migrate", COMMAND_MIGRATE},
    {"dev", COMMAND_DEV},       {"queues", COMMAND_QUEUES},   {"pause", COMMAND_PAUSE},   {"resume", COMMAND_RESUME},
    {"jobs", COMMAND_JOBS},     {"why", COMMAND_WHY},         {"doctor", COMMAND_DOCTOR}, {"retry", COMMAND_RETRY},
    {"delete", COMMAND_DELETE},
};

/* Markdown reads some characters as markup: these get a backslash. */
static void print_escaped(const char *text) {
  for (; *text; text++) {
    if (strchr("*<>\\`", *text))
      putchar('\\');
    putchar(*text);
  }
}

/* Prints the name that pgq.configure takes: that of the option, with underscores. */
static void print_setting(const char *name) {
  for (; *name; name++)
    putchar(*name == '-' ? '_' : *name);
}

/* Prints the help text as a sentence: with a capital first and a full stop at the end. */
static void print_sentence(const char *help) {
  size_t length = strlen(help);
  putchar(toupper((unsigned char)*help));
  print_escaped(help + 1);
  if (length > 0 && help[length - 1] != '.')
    putchar('.');
}

static void print_option(const struct option_row *row) {
  printf("\n### `--%s`", row->name);
  if (row->argument)
    printf(" *%s*", row->argument);
  puts("\n");
  print_sentence(row->help);
  if (row->initial && row->kind != OPTION_FLAG)
    printf(" Default: `%s`.", row->initial);
  if (row->environment)
    printf(" Variable: `%s`.", row->environment);
  if (row->script) {
    printf(" Setting: `");
    print_setting(row->name);
    printf("`.");
  }
  putchar('\n');
}

int main(int argc, char **argv) {
  for (size_t i = 0; argc == 2 && i < sizeof command_names / sizeof command_names[0]; i++)
    if (strcmp(argv[1], command_names[i].name) == 0) {
      for (size_t row = 0; row < option_row_count; row++)
        if (option_rows[row].commands & (int)command_names[i].command)
          print_option(&option_rows[row]);
      return 0;
    }
  fputs("usage: option_list worker | COMMAND\n", stderr);
  return 2;
}
