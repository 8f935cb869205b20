#ifndef PGQ_LISTING_H
#define PGQ_LISTING_H

#include <stdbool.h>

#include "buffer.h"
#include "options.h"

/*
 * Prints rows on stdout in one of three forms. On a terminal: a table with titles that fits its width, with times as
 * "3m ago". Elsewhere: a line for each row, without titles, whose values are separated by tabs and are never cut; an
 * empty value is "-". With --json: an object on each line. Texts of jobs have all characters escaped that are not seen
 * or that change how others are shown.
 */

/* What the values of a column are. A value is a text as Postgres writes it, in UTC, or NULL. */
enum listing_kind {
  LISTING_TEXT,
  LISTING_LONG,   /* a text that is cut on a terminal if it does not fit */
  LISTING_NUMBER, /* printed as it is, also in JSON: large ids keep their digits */
  LISTING_COUNT,  /* a count that may be capped: "500+" is in JSON 500 and NAME_capped: true; more than LISTING_MOST is
                     10000+ in any case */
  LISTING_PART,   /* the same, but of any size */
  LISTING_TIME,   /* a timestamptz: "3m ago" on a terminal, else in ISO 8601 */
  LISTING_AGE,    /* the same, but only "3m" on a terminal */
  LISTING_DURATION, /* a number of milliseconds: "1.5s"; in JSON the number */
  LISTING_FLAG,     /* t or f: yes or no; in JSON true or false */
  LISTING_JSON,     /* a JSON value */
  LISTING_NOTE,     /* a text; on a terminal it gets lines of its own below the row */
};

enum { LISTING_MOST = 10000 };

struct listing_column {
  const char *name;  /* in JSON; NULL: not there */
  const char *title; /* in the other forms; NULL: not there */
  enum listing_kind kind;
};

struct listing {
  /* private */
  const struct listing_column *columns;
  int count;
  bool is_json, is_terminal, keeps;
  const char *now;
  struct buffer cells;  /* on a terminal, the texts of all rows until listing_finish(), each with its NUL */
  struct buffer values; /* if the rows are kept, their values as they were added, each with its NUL */
  struct buffer places; /* then for each cell: where its text and its value are */
  int rows;
};

/*
 * listing_init(listing, options, columns, count, now): begins a list of rows with these columns; `now` is the time to
 * which times are relative. The columns and `now` must outlive the listing.
 */
void listing_init(struct listing *listing, const struct options *options, const struct listing_column *columns,
                  int count, const char *now);

/*
 * listing_keep(listing, columns, count, now): begins a list whose rows are not printed. The caller reads their cells,
 * and ends the list with listing_free() instead of listing_finish().
 */
void listing_keep(struct listing *listing, const struct listing_column *columns, int count, const char *now);

/* listing_cell(listing, row, column): the text of a kept cell as a table on a terminal shows it, "" without a value.
 * listing_value(listing, row, column): its value as it was added, or NULL. Both are valid until a row is added. */
const char *listing_cell(const struct listing *listing, int row, int column);
const char *listing_value(const struct listing *listing, int row, int column);

/* listing_free(listing): frees the memory of the listing. A zeroed one is allowed. */
void listing_free(struct listing *listing);

/* listing_is_table(listing): whether the list is shown on a terminal, where space is scarce. */
bool listing_is_table(const struct listing *listing);

/* listing_is_json(listing): whether the list is printed as JSON. */
bool listing_is_json(const struct listing *listing);

/* listing_add(listing, values): adds a row: a value for each column. */
void listing_add(struct listing *listing, const char *const *values);

/*
 * listing_finish(listing, command, empty): prints what is left. On a terminal, a list without rows is the text `empty`.
 * Frees the memory of the listing. Returns 0, or -1 after a message on stderr if stdout could not take everything.
 */
int listing_finish(struct listing *listing, const char *command, const char *empty) __attribute__((warn_unused_result));

#endif
