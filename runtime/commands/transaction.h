#ifndef PGQ_TRANSACTION_H
#define PGQ_TRANSACTION_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "buffer.h"
#include "lock_wait.h"

/*
 * The transactions of a command. Each makes its own settings, so that commands work behind poolers, with a statement
 * timeout, a safe search path, and plans that use indexes. What fails is explained on stderr, as "pgq-lua COMMAND: …":
 * missing tables by `pgq-lua migrate`, and missing privileges by their names and the statements that grant them.
 */
struct transaction {
  PGconn *conn;
  const char *command; /* its name, such as "retry" */
  /* The privileges that the command needs, as an array of texts for missing_privileges.sql in sql/commands: such as
   * {pgq_jobs SELECT,pgq_jobs UPDATE run_after}. */
  const char *needs;
  const char *narrow; /* what the user can do so that its statements read less, such as "name a queue"; NULL: nothing */
  /* For transactions that write: how long each statement may wait for a lock (--lock-wait); 0: two seconds, as for
   * transactions that only read. */
  int64_t lock_wait_ms;
  struct lock_wait wait; /* only wait.interrupted is the caller's */
  /* The option whose value the next statements have the database read as a time, such as "--since", the value, and what
   * may stand there; NULL: none. If the database cannot read it, the message says so, and `refused` is set: wrong
   * usage. */
  const char *option, *value, *value_help;
  bool refused;
};

/* How long each statement may take, without the time that it may wait for a lock. */
enum { TRANSACTION_TIMEOUT_MS = 10000 };

/* What an option for a time takes. */
#define TRANSACTION_TIME_HELP "a time that Postgres reads, such as '2030-01-31 08:00+01'"

/* transaction_is_time_error(sqlstate): whether Postgres could not read a time. */
bool transaction_is_time_error(const char *sqlstate);

/* The statement that begins a transaction that only reads. A list waits for a lock only if a session has locked a whole
 * table; then it had better say so soon: after this time. */
#define TRANSACTION_READ_ONLY "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"
enum { TRANSACTION_READ_LOCK_WAIT_MS = 2000 };

/* transaction_hint(sqlstate): what to do about a statement that has failed with this SQLSTATE, as the end of a message
 * that begins with "; ", or "". */
const char *transaction_hint(const char *sqlstate);

/* transaction_begin(transaction, read_only): begins a transaction whose statements may take TRANSACTION_TIMEOUT_MS
 * each. One that writes says on stderr for whom a statement has to wait: see lock_wait.h. Returns 0, or -1 after
 * printing a message; then there is no transaction. */
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

/*
 * transaction_explain_denial(transaction, denied): a statement was denied, as the text `denied` says, and no
 * transaction is open. Prints that, which of the privileges in `needs` are missing, and the statements that grant them.
 * Returns whether that could be found out; if not, nothing is printed.
 */
bool transaction_explain_denial(struct transaction *transaction, const char *denied);

/* transaction_commit(transaction): returns 0, or -1 after printing a message: then it was rolled back, or, if the
 * connection is lost, possibly committed. */
int transaction_commit(struct transaction *transaction) __attribute__((warn_unused_result));

/* transaction_rollback(transaction): does nothing without a transaction. */
void transaction_rollback(struct transaction *transaction);

#endif
