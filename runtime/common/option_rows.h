#ifndef PGQ_OPTION_ROWS_H
#define PGQ_OPTION_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The table of options, used by options.c only. To add an option, add a row here and a field to struct options. Options
 * of different commands may have the same name. */

/* All bits: the option belongs to every command. */
enum { EVERY_COMMAND = -1 };

enum option_kind {
  OPTION_FLAG,
  OPTION_DURATION,
  OPTION_INTEGER,
  OPTION_SIZE,
  OPTION_TEXT,
  OPTION_CHOICE,
  OPTION_HISTORY,
  OPTION_ADDRESS, /* a text that address.h reads */
};

struct option_row {
  const char *name;
  enum option_kind kind;
  size_t offset;
  int commands;            /* bits of enum command */
  bool script;             /* pgq.configure may set it */
  const char *environment; /* NULL: none */
  const char *argument;    /* the name of the value in --help */
  const char *initial;     /* the default, as a user would write it; NULL: none */
  int64_t least, most;     /* bounds of an integer, a duration in ms, or a size in bytes; a size may also be 0 */
  const char *choices[5];  /* of OPTION_CHOICE: the words, in the order of the enum */
  const char *help;
};

/* In the order of --help. */
extern const struct option_row option_rows[];
extern const size_t option_row_count;

#endif
