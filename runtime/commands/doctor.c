#include "doctor.h"

#include <stdio.h>
#include <string.h>

#include "commands_sql.h"
#include "database.h"
#include "doctor_checks.h"
#include "failure.h"
#include "refusal.h"

/* The columns that the statements of the checks return (sql/commands/doctor_server.sql). */
enum column { COLUMN_CHECK, COLUMN_LEVEL, COLUMN_FINDING, COLUMN_REPAIR };

struct check_row {
  const char *name;
  const char *sql; /* or, if it is NULL: */
  void (*run)(struct doctor *doctor);
};

static const struct check_row checks[] = {
    {"server", SQL_DOCTOR_SERVER, NULL},       {"settings", SQL_DOCTOR_SETTINGS, NULL},
    {"clocks", NULL, doctor_check_clock},      {"locks", SQL_DOCTOR_LOCKS, NULL},
    {"tables", NULL, doctor_check_tables},     {"indexes", SQL_DOCTOR_INDEXES, NULL},
    {"trigger", SQL_DOCTOR_TRIGGER, NULL},     {"plans", NULL, doctor_check_plans},
    {"listen", NULL, doctor_check_listen},     {"privileges", SQL_DOCTOR_PRIVILEGES, NULL},
    {"workers", SQL_DOCTOR_WORKERS, NULL},     {"queues", SQL_DOCTOR_QUEUES, NULL},
    {"sequences", SQL_DOCTOR_SEQUENCES, NULL}, {"bloat", SQL_DOCTOR_BLOAT, NULL},
    {"vacuum", SQL_DOCTOR_VACUUM, NULL},       {"transactions", SQL_DOCTOR_TRANSACTIONS, NULL},
    {"slots", SQL_DOCTOR_SLOTS, NULL},
};

static bool is_good(const PGresult *result) {
  return PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;
}

PGresult *doctor_begin(const struct doctor *doctor) {
  char timeout[16];
  const char *lock_timeout = doctor->slow ? DOCTOR_SHORT_LOCK_TIMEOUT_MS : DOCTOR_LOCK_TIMEOUT_MS;
  snprintf(timeout, sizeof timeout, "%d", doctor->slow ? DOCTOR_SHORT_TIMEOUT_MS : DOCTOR_TIMEOUT_MS);
  PGresult *result = PQexec(doctor->conn, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY");
  if (is_good(result)) {
    PQclear(result);
    result = PQexecParams(doctor->conn, SQL_COMMAND_SETTINGS, 2, NULL, (const char *[]){timeout, lock_timeout}, NULL,
                          NULL, 0);
  }
  if (!is_good(result))
    return result;
  PQclear(result);
  return NULL;
}

void doctor_rollback(const struct doctor *doctor) {
  if (PQtransactionStatus(doctor->conn) != PQTRANS_IDLE)
    PQclear(PQexec(doctor->conn, "ROLLBACK"));
}

void doctor_add_failure(struct doctor *doctor, const char *check, const PGresult *result) {
  struct pgq_error error;
  char finding[sizeof error.message + 64];
  const char *repair = NULL;
  failure_from_result(&error, doctor->conn, result);
  snprintf(finding, sizeof finding, "not checked: %s", error.message);
  if (strcmp(error.sqlstate, "42501") == 0)
    repair = strcmp(check, "plans") == 0 ? "run doctor as the role of the workers"
                                         : "run doctor as a role with the privileges of pgq_viewer";
  else if (strcmp(error.sqlstate, "42P01") == 0 || strcmp(error.sqlstate, "42703") == 0)
    repair = "pgq-lua migrate";
  if (strcmp(error.sqlstate, "55P03") == 0) {
    snprintf(finding, sizeof finding, "not checked: another session has locked a table that this check reads");
    doctor->slow = true;
    repair = "end the session that the check 'locks' names, or wait for it";
  }
  if (strcmp(error.sqlstate, "57014") == 0) {
    doctor->slow = true;
    repair = "try again when the server is less busy, and when the check 'locks' finds no session in the way";
  }
  doctor_report_add(&doctor->report, check, "warn", finding, repair);
}

static void run_statement(struct doctor *doctor, const struct check_row *check) {
  PGresult *result = doctor_begin(doctor);
  if (!result)
    result = PQexecParams(doctor->conn, check->sql, 0, NULL, NULL, NULL, NULL, 0);
  if (PQresultStatus(result) != PGRES_TUPLES_OK)
    doctor_add_failure(doctor, check->name, result);
  for (int row = 0; row < PQntuples(result); row++)
    doctor_report_add(&doctor->report, PQgetvalue(result, row, COLUMN_CHECK), PQgetvalue(result, row, COLUMN_LEVEL),
                      PQgetvalue(result, row, COLUMN_FINDING),
                      PQgetisnull(result, row, COLUMN_REPAIR) ? NULL : PQgetvalue(result, row, COLUMN_REPAIR));
  PQclear(result);
  doctor_rollback(doctor);
}

int doctor_command(const struct options *options, int argc, char **argv) {
  struct doctor doctor = {.options = options};
  if (argc > 0)
    return refuse("doctor", "doctor [options]", "unexpected argument '%.100s'", argv[0]);
  doctor.conn = database_connect_as(options, "pgq-lua doctor");
  if (!doctor.conn)
    return 1;
  doctor_report_begin(&doctor.report, options);
  for (size_t i = 0; i < sizeof checks / sizeof checks[0] && PQstatus(doctor.conn) == CONNECTION_OK; i++) {
    if (checks[i].sql)
      run_statement(&doctor, &checks[i]);
    else
      checks[i].run(&doctor);
  }
  if (PQstatus(doctor.conn) != CONNECTION_OK)
    doctor_report_add(&doctor.report, "server", "bad", "the connection was lost; some checks were left out", NULL);
  PQfinish(doctor.conn);
  return doctor_report_end(&doctor.report);
}
