/*
 * option_list COMMAND: prints the options of a command as Markdown, from the table that the program itself reads. The
 * pages of the manual contain this text between two markers; `cmake --build build --target manual` renews it.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "option_rows.h"
#include "options.h"

/* The last word of the name of a command, such as "enqueue". */
static const char *last_word(const char *name) {
  const char *blank = strrchr(name, ' ');
  return blank ? blank + 1 : name;
}

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
  const char *name;
  for (int bit = 0; argc == 2 && (name = options_command_name(bit)); bit++)
    if (strcmp(argv[1], last_word(name)) == 0) {
      for (size_t row = 0; row < option_row_count; row++)
        if (option_rows[row].commands & 1 << bit)
          print_option(&option_rows[row]);
      return 0;
    }
  fputs("usage: option_list worker | COMMAND\n", stderr);
  return 2;
}
