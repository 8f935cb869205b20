#ifndef PGQ_OPTION_ROWS_H
#define PGQ_OPTION_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The table that options.c works on: nobody else needs it. A new option is a new row, and a field in struct options. */

enum option_kind { KIND_FLAG, KIND_DURATION, KIND_INTEGER, KIND_SIZE, KIND_TEXT, KIND_CHOICE };
struct option_row {
  const char *name;
  enum option_kind kind;
  size_t offset;
  int commands;            /* bits of enum command */
  bool script;             /* pgq.configure may set it */
  const char *environment; /* NULL: none */
  const char *argument;    /* what --help calls the value */
  const char *initial;     /* the default, as one would write it; NULL: none */
  int64_t least, most;     /* of an integer, of a duration in ms, or of a size in bytes, which may be 0 as well */
  const char *choices[5];  /* of a choice, in the order of its enum */
  const char *help;
};

/* In the order of --help. */
extern const struct option_row option_rows[];
extern const size_t option_row_count;

#endif
