#include "transaction.h"

#include <stdio.h>
#include <string.h>

#include "commands_sql.h"
#include "failure.h"

/* A list waits for a lock only if a session has locked a whole table; then it had better say so soon. */
#define LOCK_TIMEOUT_MS "2000"

static bool is_good(const PGresult *result) {
  return PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;
}

static PGresult *run(const struct transaction *transaction, const char *sql, int count, const char *const *values) {
  return PQexecParams(transaction->conn, sql, count, NULL, values, NULL, NULL, 0);
}

/* Begins a transaction and makes its settings. Returns the result of the statement that failed, or NULL. */
static PGresult *begin(const struct transaction *transaction, bool read_only) {
  char timeout[16];
  const char *sql =
      read_only ? "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY" : "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
  snprintf(timeout, sizeof timeout, "%d",
           transaction->timeout_ms > 0 ? transaction->timeout_ms : TRANSACTION_TIMEOUT_MS);
  PGresult *result = run(transaction, sql, 0, NULL);
  if (is_good(result)) {
    PQclear(result);
    result = run(transaction, SQL_COMMAND_SETTINGS, 2, (const char *[]){timeout, read_only ? LOCK_TIMEOUT_MS : "0"});
  }
  if (!is_good(result))
    return result;
  PQclear(result);
  return NULL;
}

/* After a denied statement: prints which privileges are missing. Returns whether it could be found out. */
static bool name_missing_privileges(struct transaction *transaction, const char *denied) {
  if (!transaction->needs)
    return false;
  PQclear(begin(transaction, true));
  PGresult *result = run(transaction, SQL_MISSING_PRIVILEGES, 1, &transaction->needs);
  bool found = PQresultStatus(result) == PGRES_TUPLES_OK && !PQgetisnull(result, 0, 1);
  if (found)
    fprintf(stderr, "pgq-lua %s: %s; the role '%s' does not have: %s\n", transaction->command, denied,
            PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1));
  PQclear(result);
  transaction_rollback(transaction);
  return found;
}

/* Prints why a statement failed, and what to do, and ends the transaction. */
static void explain(struct transaction *transaction, const PGresult *result) {
  struct pgq_error error;
  const char *hint = "", *narrow = "", *separator = "";
  failure_from_result(&error, transaction->conn, result);
  transaction_rollback(transaction);
  if (strcmp(error.sqlstate, "42501") == 0 && name_missing_privileges(transaction, error.message))
    return;
  if (strcmp(error.sqlstate, "42883") == 0 || strcmp(error.sqlstate, "42P01") == 0 ||
      strcmp(error.sqlstate, "42703") == 0)
    hint = "; run `pgq-lua migrate` to create what is missing";
  else if (strcmp(error.sqlstate, "57014") == 0) {
    hint =
        "; the server is busy, another session has locked a table, or an index is missing: `pgq-lua doctor` says which";
    narrow = transaction->narrow ? transaction->narrow : "";
    separator = *narrow ? "; " : "";
  } else if (strcmp(error.sqlstate, "55P03") == 0)
    hint = "; another session has locked a table: `pgq-lua doctor` names it";
  else if (strcmp(error.sqlstate, "25006") == 0)
    hint = "; this server takes no changes: use the primary server";
  fprintf(stderr, "pgq-lua %s: %s%s%s%s\n", transaction->command, error.message, separator, narrow, hint);
}

int transaction_begin(struct transaction *transaction, bool read_only) {
  PGresult *failed = begin(transaction, read_only);
  if (!failed)
    return 0;
  explain(transaction, failed);
  PQclear(failed);
  return -1;
}

/* Returns the result, or NULL after explaining why it is an error. */
static PGresult *check(struct transaction *transaction, PGresult *result) {
  if (is_good(result))
    return result;
  explain(transaction, result);
  PQclear(result);
  return NULL;
}

PGresult *transaction_ask(struct transaction *transaction, const char *sql, int count, const char *const *values) {
  return check(transaction, run(transaction, sql, count, values));
}

PGresult *transaction_ask_binary(struct transaction *transaction, const char *sql, int count,
                                 const char *const *values) {
  return check(transaction, PQexecParams(transaction->conn, sql, count, NULL, values, NULL, NULL, 1));
}

PGresult *transaction_ask_data(struct transaction *transaction, const char *sql, int count, const char *const *values,
                               const struct buffer *data) {
  enum { MOST = 16 };
  const char *all[MOST];
  int lengths[MOST] = {0}, formats[MOST] = {0};
  memcpy(all, values, (size_t)count * sizeof *all);
  all[count] = !data ? NULL : data->length > 0 ? (const char *)data->bytes : "";
  lengths[count] = data ? (int)data->length : 0;
  formats[count] = 1;
  return check(transaction, PQexecParams(transaction->conn, sql, count + 1, NULL, all, lengths, formats, 0));
}

int transaction_commit(struct transaction *transaction) {
  PGresult *result = transaction_ask(transaction, "COMMIT", 0, NULL);
  bool committed = result && strcmp(PQcmdStatus(result), "COMMIT") == 0;
  if (result && !committed)
    fprintf(stderr, "pgq-lua %s: the transaction was rolled back\n", transaction->command);
  PQclear(result);
  return committed ? 0 : -1;
}

void transaction_rollback(struct transaction *transaction) {
  if (PQtransactionStatus(transaction->conn) != PQTRANS_IDLE)
    PQclear(PQexec(transaction->conn, "ROLLBACK"));
}
