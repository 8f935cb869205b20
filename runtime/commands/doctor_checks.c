#include "doctor_checks.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "buffer.h"
#include "clock.h"
#include "database.h"
#include "migrate_steps.h"
#include "worker_sql.h"

/* Bytes of a finding. */
enum { FINDING_SIZE = 1024 };

static PGresult *ask(const struct doctor *doctor, const char *sql, int count, const char *const *values) {
  return PQexecParams(doctor->conn, sql, count, NULL, values, NULL, NULL, 0);
}

static bool has_rows(const PGresult *result) {
  return PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0;
}

/* ── tables ── */

/* What the worker looks at when it starts: the tables, their columns and the types of these. */
static bool check_columns(struct doctor *doctor) {
  PGresult *result = doctor_begin(doctor);
  if (!result)
    result = ask(doctor, SQL_CHECK_SCHEMA, 1, (const char *[]){"false"});
  const char *problem = has_rows(result) ? PQgetvalue(result, 0, 0) : "";
  bool about_role = strncmp(problem, "the role ", 9) == 0; /* this one, which need not be that of a worker */
  bool good = PQresultStatus(result) == PGRES_TUPLES_OK && (!*problem || about_role);
  if (*problem && !about_role)
    doctor_report_add(&doctor->report, "tables", "bad", problem,
                      *PQgetvalue(result, 0, 1) == 't' ? "pgq-lua migrate" : NULL);
  else if (!good)
    doctor_add_failure(doctor, "tables", result);
  PQclear(result);
  doctor_rollback(doctor);
  return good;
}

/* Whether the table can be read at once: some functions of the catalog wait for its lock. */
static bool check_reading(struct doctor *doctor) {
  PGresult *result = doctor_begin(doctor);
  if (!result)
    result = ask(doctor, "SELECT FROM pgq_jobs LIMIT 0", 0, NULL);
  const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  bool waits = state && (strcmp(state, "55P03") == 0 || strcmp(state, "57014") == 0);
  if (waits)
    doctor_add_failure(doctor, "tables", result);
  PQclear(result);
  doctor_rollback(doctor);
  return !waits;
}

void doctor_check_tables(struct doctor *doctor) {
  struct steps_left_out none = {0};
  struct step step;
  char finding[FINDING_SIZE];
  if (!check_reading(doctor))
    return;
  bool good = check_columns(doctor);
  int found = step_find(doctor->conn, &none, &step);
  if (found > 0) {
    snprintf(finding, sizeof finding, "the tables are not up to date; the first step that they need is: %s", step.name);
    doctor_report_add(&doctor->report, "tables", "bad", finding, "pgq-lua migrate");
    step_free(&step);
  } else if (found < 0) {
    doctor_report_add(&doctor->report, "tables", "warn", "it could not be found out whether they are up to date", NULL);
  } else if (good) {
    doctor_report_add(&doctor->report, "tables", "ok", "tables, columns, functions and checks are up to date", NULL);
  }
}

/* ── plans ── */

/* Statements of workers that would be slow without the indexes. */
struct plan_row {
  const char *name;
  const char *sql;
};

static const struct plan_row plans[] = {
    {"claim", SQL_CLAIM},
    {"next_due", SQL_NEXT_DUE},
    {"complete_by_id", SQL_COMPLETE_BY_ID},
    {"end_dead_worker", SQL_END_DEAD_WORKER},
};

/* Returns the first node of the plan that reads all rows of pgq_jobs, or sorts them; or NULL. */
static const char *find_slow_node(const cJSON *node) {
  const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(node, "Node Type"));
  const char *relation = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(node, "Relation Name"));
  if (type && relation && strcmp(relation, "pgq_jobs") == 0 &&
      (strcmp(type, "Seq Scan") == 0 || strcmp(type, "Bitmap Heap Scan") == 0))
    return type;
  const cJSON *child;
  cJSON_ArrayForEach(child, node) {
    const char *found = cJSON_IsObject(child) || cJSON_IsArray(child) ? find_slow_node(child) : NULL;
    if (found)
      return found;
  }
  return NULL;
}

static void add_text(struct buffer *out, const char *text) {
  buffer_add(out, text, strlen(text));
}

/* The number of parameters: the greatest n of its $n. */
static int count_parameters(const char *sql) {
  int most = 0;
  for (const char *at = strchr(sql, '$'); at; at = strchr(at + 1, '$'))
    most = atoi(at + 1) > most ? atoi(at + 1) : most;
  return most;
}

/* Frees a good result and returns NULL; returns another result as it is. */
static PGresult *fail_of(PGresult *result) {
  if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
    return result;
  PQclear(result);
  return NULL;
}

/*
 * Explains the statement as workers run it: with the settings of their sessions, and without regard to the values of
 * its parameters. Returns the plan, or the result of what failed. There is a transaction.
 */
static PGresult *explain(const struct doctor *doctor, const char *sql) {
  struct buffer text = {0};
  int count = count_parameters(sql);
  PGresult *failed = fail_of(ask(doctor, SQL_SESSION_SETTINGS, 2, (const char *[]){"5000", "true"}));
  if (!failed)
    failed = fail_of(PQexec(doctor->conn, doctor->slow
                                              ? "SET LOCAL statement_timeout = 200; SET LOCAL lock_timeout = 100"
                                              : "SET LOCAL statement_timeout = 2000; SET LOCAL lock_timeout = 1000"));
  add_text(&text, "PREPARE pgq_doctor AS ");
  buffer_add(&text, sql, strlen(sql) + 1);
  if (!failed)
    failed = fail_of(PQexec(doctor->conn, (const char *)text.bytes));
  if (failed) {
    buffer_free(&text);
    return failed;
  }
  text.length = 0;
  add_text(&text, "EXPLAIN (FORMAT JSON) EXECUTE pgq_doctor");
  for (int i = 0; i < count; i++)
    add_text(&text, i == 0 ? "(NULL" : ", NULL");
  add_text(&text, count > 0 ? ")" : "");
  buffer_add(&text, "", 1);
  PGresult *result = PQexec(doctor->conn, (const char *)text.bytes);
  buffer_free(&text);
  return result;
}

/* Adds a finding if the plan is bad. Returns whether it is good. */
static bool check_plan(struct doctor *doctor, const struct plan_row *plan) {
  char finding[FINDING_SIZE];
  bool good = false;
  PGresult *result = doctor_begin(doctor);
  if (!result)
    result = explain(doctor, plan->sql);
  if (has_rows(result)) {
    cJSON *tree = cJSON_Parse(PQgetvalue(result, 0, 0));
    const char *slow = find_slow_node(tree);
    good = tree && !slow;
    snprintf(finding, sizeof finding, "the statement '%s' of workers reads the whole table (%s)", plan->name,
             slow ? slow : "its plan cannot be read");
    if (!good)
      doctor_report_add(&doctor->report, "plans", "bad", finding, "pgq-lua migrate");
    cJSON_Delete(tree);
  } else {
    doctor_add_failure(doctor, "plans", result);
  }
  PQclear(result);
  doctor_rollback(doctor);
  PQclear(PQexec(doctor->conn, "DEALLOCATE pgq_doctor"));
  return good;
}

void doctor_check_plans(struct doctor *doctor) {
  int good = 0, count = sizeof plans / sizeof plans[0];
  while (good < count && check_plan(doctor, &plans[good]))
    good++;
  if (good == count)
    doctor_report_add(&doctor->report, "plans", "ok", "the statements of workers use the indexes", NULL);
}

/* ── LISTEN ── */

/* A pooler gives its clients process numbers of its own. */
static bool is_pooled(const struct doctor *doctor) {
  PGresult *result = ask(doctor, SQL_BACKEND_PID, 0, NULL);
  bool pooled = has_rows(result) && atoi(PQgetvalue(result, 0, 0)) != PQbackendPID(doctor->conn);
  PQclear(result);
  return pooled;
}

/* Waits for the notification, for DOCTOR_TIMEOUT_MS at most. Returns for how many milliseconds, or -1 if it has not
 * come. */
static int64_t wait_for(PGconn *conn, const char *payload) {
  int64_t began_ms = clock_ms();
  for (;;) {
    PGnotify *notice;
    int64_t waited_ms = clock_ms() - began_ms;
    if (!PQconsumeInput(conn))
      return -1;
    while ((notice = PQnotifies(conn))) {
      bool found = strcmp(notice->extra, payload) == 0;
      PQfreemem(notice);
      if (found)
        return waited_ms;
    }
    if (waited_ms >= DOCTOR_TIMEOUT_MS)
      return -1;
    poll(&(struct pollfd){.fd = PQsocket(conn), .events = POLLIN}, 1, (int)(DOCTOR_TIMEOUT_MS - waited_ms));
  }
}

/* Notifies from a second connection, as another client would. Returns whether it could. */
static bool notify(const struct doctor *doctor, const char *payload) {
  static const char sql[] = "SELECT pg_catalog.pg_notify('pgq_doctor', $1::pg_catalog.text)";
  PGconn *conn = database_connect_as(doctor->options, "pgq-lua doctor");
  PGresult *result = conn ? PQexecParams(conn, sql, 1, NULL, &payload, NULL, NULL, 0) : NULL;
  bool sent = PQresultStatus(result) == PGRES_TUPLES_OK;
  PQclear(result);
  PQfinish(conn);
  return sent;
}

void doctor_check_listen(struct doctor *doctor) {
  char payload[64], finding[FINDING_SIZE];
  bool pooled = is_pooled(doctor);
  snprintf(payload, sizeof payload, "%d:%lld", (int)getpid(), (long long)clock_ms());
  PGresult *result = PQexec(doctor->conn, "LISTEN pgq_doctor");
  if (PQresultStatus(result) != PGRES_COMMAND_OK) {
    doctor_add_failure(doctor, "listen", result);
  } else if (!notify(doctor, payload)) {
    doctor_report_add(&doctor->report, "listen", "warn", "not checked: a second connection could not notify", NULL);
  } else {
    int64_t waited_ms = wait_for(doctor->conn, payload);
    snprintf(finding, sizeof finding, "a notification came after %lld ms", (long long)waited_ms);
    if (waited_ms >= 0)
      doctor_report_add(&doctor->report, "listen", "ok", finding, NULL);
    else
      doctor_report_add(&doctor->report, "listen", pooled ? "warn" : "bad",
                        pooled ? "no notification came: a pooler shares the sessions; workers behind it poll"
                               : "no notification came within 2 s; sleeping workers poll",
                        pooled ? "connect workers to the server itself, or through a pool that keeps sessions, with "
                                 "--pooler session"
                               : NULL);
  }
  PQclear(result);
  PQclear(PQexec(doctor->conn, "UNLISTEN pgq_doctor"));
}

/* ── the clock of this machine ── */

static double now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void doctor_check_clock(struct doctor *doctor) {
  char finding[FINDING_SIZE];
  double before = now_s();
  PGresult *result = ask(doctor, "SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())", 0, NULL);
  double after = now_s();
  if (has_rows(result)) {
    double skew = fabs(strtod(PQgetvalue(result, 0, 0), NULL) - (before + after) / 2) - (after - before) / 2;
    bool good = skew <= 2;
    snprintf(finding, sizeof finding, "the clocks of this machine and of the database differ by %.1f s",
             skew > 0 ? skew : 0.0);
    doctor_report_add(&doctor->report, "clocks",
                      good        ? "ok"
                      : skew > 60 ? "bad"
                                  : "warn",
                      finding, good ? NULL : "synchronise the clocks of both machines, as by chronyd");
  } else {
    doctor_add_failure(doctor, "clocks", result);
  }
  PQclear(result);
}
