#ifndef PGQ_TRANSACTION_H
#define PGQ_TRANSACTION_H

#include <stdbool.h>

#include <libpq-fe.h>

#include "buffer.h"

/*
 * The transactions of a command. Each makes its own settings, so that commands work behind poolers, with a statement
 * timeout, a safe search path, and plans that use indexes. What fails is explained on stderr, as "pgq-lua COMMAND: …":
 * missing tables by `pgq-lua migrate`, and missing privileges by their names.
 */
struct transaction {
  PGconn *conn;
  const char *command; /* its name, such as "retry" */
  /* The privileges that the command needs, as an array of texts for missing_privileges.sql in sql/commands: such as
   * {pgq_jobs SELECT,pgq_jobs UPDATE run_after}. */
  const char *needs;
  const char *narrow; /* what the user can do so that its statements read less, such as "name a queue"; NULL: nothing */
  int timeout_ms;     /* how long each statement may take; 0: TRANSACTION_TIMEOUT_MS */
};

enum { TRANSACTION_TIMEOUT_MS = 10000 };

/* transaction_begin(transaction, read_only): begins a transaction whose statements may take TRANSACTION_TIMEOUT_MS
 * each. Returns 0, or -1 after printing a message; then there is no transaction. */
int transaction_begin(struct transaction *transaction, bool read_only) __attribute__((warn_unused_result));

/*
 * transaction_ask(transaction, sql, count, values): runs a statement with `count` parameters in text form, of which
 * NULL is null. Returns its rows, which the caller frees with PQclear(); or NULL after printing a message, and then the
 * transaction is rolled back.
 */
PGresult *transaction_ask(struct transaction *transaction, const char *sql, int count, const char *const *values)
    __attribute__((warn_unused_result));

/* transaction_ask_binary(transaction, sql, count, values): the same, with values of the rows in binary form. */
PGresult *transaction_ask_binary(struct transaction *transaction, const char *sql, int count, const char *const *values)
    __attribute__((warn_unused_result));
/* transaction_ask_data(transaction, sql, count, values, data): the same, with one more parameter behind these, which is
 * a bytea; NULL is null. */
PGresult *transaction_ask_data(struct transaction *transaction, const char *sql, int count, const char *const *values,
                               const struct buffer *data) __attribute__((warn_unused_result));

/* transaction_commit(transaction): returns 0, or -1 after printing a message: then it was rolled back, or, if the
 * connection is lost, possibly committed. */
int transaction_commit(struct transaction *transaction) __attribute__((warn_unused_result));

/* transaction_rollback(transaction): does nothing without a transaction. */
void transaction_rollback(struct transaction *transaction);

#endif
