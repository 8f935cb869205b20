#include "transaction.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands_sql.h"
#include "duration.h"
#include "failure.h"

static bool is_good(const PGresult *result) {
  return PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;
}

/* Runs a statement that may wait for a lock. Text parameters have no lengths. Returns its result. */
static PGresult *run_with(struct transaction *transaction, const char *sql, int count, const char *const *values,
                          const int *lengths, const int *formats, int result_format) {
  PGconn *conn = transaction->conn;
  transaction->wait.holders[0] = '\0';
  if (PQsendQueryParams(conn, sql, count, NULL, values, lengths, formats, result_format) != 1)
    return NULL;
  transaction->wait.conn = conn;
  transaction->wait.command = transaction->command;
  return lock_wait_result(&transaction->wait);
}

static PGresult *run(struct transaction *transaction, const char *sql, int count, const char *const *values) {
  return run_with(transaction, sql, count, values, NULL, NULL, 0);
}

/* Begins a transaction and makes its settings. Returns the result of the statement that failed, or NULL. */
static PGresult *begin(struct transaction *transaction, bool read_only) {
  char timeout[24], lock_timeout[24];
  const char *sql = read_only ? TRANSACTION_READ_ONLY : "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
  int64_t wait_ms =
      read_only || transaction->lock_wait_ms == 0 ? TRANSACTION_READ_LOCK_WAIT_MS : transaction->lock_wait_ms;
  snprintf(timeout, sizeof timeout, "%lld", TRANSACTION_TIMEOUT_MS + (read_only ? 0LL : (long long)wait_ms));
  snprintf(lock_timeout, sizeof lock_timeout, "%lld", (long long)wait_ms);
  transaction->wait.pid = 0;
  transaction->wait.silent = read_only || wait_ms <= TRANSACTION_READ_LOCK_WAIT_MS;
  transaction->wait.limit_ms = (int)wait_ms;
  PGresult *result = run(transaction, sql, 0, NULL);
  if (PQresultStatus(result) == PGRES_COMMAND_OK) {
    PQclear(result);
    result = run(transaction, SQL_COMMAND_SETTINGS, 2, (const char *[]){timeout, lock_timeout});
  }
  if (!is_good(result))
    return result ? result : PQmakeEmptyPGresult(transaction->conn, PGRES_FATAL_ERROR);
  if (PQntuples(result) > 0)
    transaction->wait.pid = atoi(PQgetvalue(result, 0, 1));
  PQclear(result);
  return NULL;
}

bool transaction_explain_denial(struct transaction *transaction, const char *denied) {
  if (!transaction->needs)
    return false;
  PQclear(begin(transaction, true));
  PGresult *result = run(transaction, SQL_MISSING_PRIVILEGES, 1, &transaction->needs);
  bool found = PQresultStatus(result) == PGRES_TUPLES_OK && !PQgetisnull(result, 0, 1);
  if (found)
    fprintf(stderr, "pgq-lua %s: %s; the role '%s' does not have: %s. To grant that: %s\n", transaction->command,
            denied, PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 2));
  PQclear(result);
  transaction_rollback(transaction);
  return found;
}

const char *transaction_hint(const char *sqlstate) {
  static const struct {
    const char *sqlstate, *hint;
  } hints[] = {
      {"42883", "; run `pgq-lua migrate` to create what is missing"},
      {"42P01", "; run `pgq-lua migrate` to create what is missing"},
      {"42703", "; run `pgq-lua migrate` to create what is missing"},
      {"57014", "; the server is busy, another session has locked a table, or an index is missing: `pgq-lua doctor` "
                "says which"},
      {"55P03", "; another session has locked a table: `pgq-lua doctor` names it"},
      {"25006", "; this server takes no changes: use the primary server"},
  };
  for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
    if (strcmp(sqlstate, hints[i].sqlstate) == 0)
      return hints[i].hint;
  return "";
}

/* Not a time; out of range; an unknown zone, by offset or by name. */
bool transaction_is_time_error(const char *sqlstate) {
  static const char *const states[] = {"22007", "22008", "22009", "22023"};
  for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
    if (strcmp(sqlstate, states[i]) == 0)
      return true;
  return false;
}

/* Prints why a statement failed, and what to do, and ends the transaction. */
static void explain(struct transaction *transaction, const PGresult *result) {
  struct pgq_error error;
  failure_from_result(&error, transaction->conn, result);
  transaction_rollback(transaction);
  bool lost_patience = strcmp(error.sqlstate, "57014") == 0 || strcmp(error.sqlstate, "55P03") == 0;
  if (strcmp(error.sqlstate, "42501") == 0 && transaction_explain_denial(transaction, error.message))
    return;
  if (transaction->option && transaction_is_time_error(error.sqlstate)) {
    fprintf(stderr, "pgq-lua %s: %s: '%.100s' is not a time: %s; write %s\n", transaction->command, transaction->option,
            transaction->value, error.message, transaction->value_help);
    transaction->refused = true;
    return;
  }
  if (lost_patience && !lock_wait_is_interrupted(&transaction->wait) && *transaction->wait.holders) {
    char waited[DURATION_TEXT_SIZE];
    duration_format(transaction->wait.limit_ms, waited);
    fprintf(stderr, "pgq-lua %s: gave up after %s: %s\n", transaction->command, waited, transaction->wait.holders);
    return;
  }
  const char *hint = transaction_hint(error.sqlstate), *narrow = "";
  if (lost_patience && lock_wait_is_interrupted(&transaction->wait))
    hint = "; interrupted while waiting for a lock";
  else if (strcmp(error.sqlstate, "57014") == 0 && transaction->narrow)
    narrow = transaction->narrow;
  fprintf(stderr, "pgq-lua %s: %s%s%s%s\n", transaction->command, error.message, *narrow ? "; " : "", narrow, hint);
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
  return check(transaction, run_with(transaction, sql, count, values, NULL, NULL, 1));
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
  return check(transaction, run_with(transaction, sql, count + 1, all, lengths, formats, 0));
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
