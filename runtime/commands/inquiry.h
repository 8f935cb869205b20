#ifndef PGQ_INQUIRY_H
#define PGQ_INQUIRY_H

#include "options.h"
#include "transaction.h"

/*
 * What the commands that only read have in common: a session with one transaction, which is read only. All functions
 * have printed a message when they fail.
 */
struct inquiry {
  struct transaction transaction;
  char now[64]; /* when the transaction began, as a timestamptz */
};

/*
 * inquiry_begin(inquiry, options, command, needs, narrow): connects as application "pgq-lua COMMAND", and begins the
 * transaction. `needs` are the privileges that the command needs, and `narrow` is what makes it read less, or NULL: see
 * struct transaction. The texts must outlive the inquiry. Blocks. Returns 0, or -1; then there is nothing to end.
 */
int inquiry_begin(struct inquiry *inquiry, const struct options *options, const char *command, const char *needs,
                  const char *narrow) __attribute__((warn_unused_result));

/* inquiry_ask(inquiry, sql, count, values): runs a statement with `count` parameters, as texts or NULL. Returns its
 * rows, which the caller frees with PQclear(); or NULL, and then the transaction has ended. */
PGresult *inquiry_ask(struct inquiry *inquiry, const char *sql, int count, const char *const *values)
    __attribute__((warn_unused_result));

/* inquiry_end(inquiry): ends the transaction, and disconnects. */
void inquiry_end(struct inquiry *inquiry);

/* The number of rows that a list has without --limit. */
enum { INQUIRY_LIMIT = 50 };

/* inquiry_limit(options, text): writes the greatest number of rows of a list; returns `text`. */
const char *inquiry_limit(const struct options *options, char text[24]);

#endif
