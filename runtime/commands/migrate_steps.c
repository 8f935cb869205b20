#include "migrate_steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "buffer.h"
#include "clock.h"
#include "embedded.h"
#include "memory.h"
#include "migrate_sql.h"

/* Sessions that enqueue or claim wait behind a lock that is waited for. So such a lock is waited for only for a moment,
 * and then the others go on for a while. A lock that lets them go on may be waited for longer: autovacuum makes way for
 * it after a second. */
enum { MOMENT_MS = 200, PATIENT_MS = 5000, PAUSE_MS = 1000, TELL_AGAIN_MS = 10000 };

/* Columns of next_step.sql. */
enum step_column { STEP_NAME, STEP_KIND, STEP_TABLE, STEP_STATEMENT, STEP_BREAKS };

/* The functions that are compared with those of the database: NAME is created by sql/schema/NAME.sql. */
static const char *const function_names[] = {
    "pgq_ring",
    "pgq_enqueue",
    "pgq_cancel",
    "pgq_retry",
    "pgq_pause",
    "pgq_resume",
    "pgq_why",
    "pgq_why_queue",
    "pgq_why_span",
    "pgq_why_words",
    "pgq_why_distance",
    "pgq_why_nearest",
    "pgq_why_sessions",
    "pgq_why_table_lockers",
    "pgq_why_row_lockers",
    "pgq_why_workers",
    "pgq_why_running",
    "pgq_why_pace",
    "pgq_why_speed",
    "pgq_why_waiting",
    "pgq_why_ended",
};
enum { FUNCTIONS = sizeof function_names / sizeof *function_names, FILE_NAME_SIZE = 96 };

/* ── running SQL ── */

static void explain(const char *what, const PGresult *result, const PGconn *conn) {
  const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
  const char *hint = "";
  if (state && strcmp(state, "42501") == 0)
    hint = "run `pgq-lua migrate` as the owner of the tables, who may create objects in their schema\n";
  else if (state && strcmp(state, "25006") == 0)
    hint = "the server is read-only: run `pgq-lua migrate` on the primary server\n";
  fprintf(stderr, "pgq-lua: %s failed: %s%s", what, result ? PQresultErrorMessage(result) : PQerrorMessage(conn), hint);
}

static bool is_good(const PGresult *result) {
  return PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;
}

/* Runs the text, which may have several statements. Returns 0; 1 if it should be tried again, because another session
 * has a lock; or -1 after printing a message. */
static int run(PGconn *conn, const char *what, const char *sql) {
  PGresult *result = PQexec(conn, sql);
  const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  int status = is_good(result) ? 0 : state && (strcmp(state, "55P03") == 0 || strcmp(state, "40P01") == 0) ? 1 : -1;
  if (status < 0)
    explain(what, result, conn);
  PQclear(result);
  return status;
}

PGresult *step_ask(PGconn *conn, const char *what, const char *sql, int count, const char *const *values) {
  PGresult *result = PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 0);
  if (is_good(result))
    return result;
  explain(what, result, conn);
  PQclear(result);
  return NULL;
}

static int set(PGconn *conn, int lock_timeout_ms) {
  char timeout[16];
  snprintf(timeout, sizeof timeout, "%d", lock_timeout_ms);
  PGresult *result = step_ask(conn, "reading the search path", SQL_TRANSACTION_SETTINGS, 1, (const char *[]){timeout});
  PQclear(result);
  return result ? 0 : -1;
}

int step_begin(PGconn *conn, bool read_only, int lock_timeout_ms) {
  const char *sql =
      read_only ? "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY" : "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
  return run(conn, "BEGIN", sql) == 0 ? set(conn, lock_timeout_ms) : -1;
}

static void roll_back(PGconn *conn) {
  PQclear(PQexec(conn, "ROLLBACK"));
}

static void function_file(char name[FILE_NAME_SIZE], int function) {
  snprintf(name, FILE_NAME_SIZE, "sql/schema/%s.sql", function_names[function]);
}

static const char *file_text(const char *name) {
  const struct embedded_file *file = embedded_find(name);
  return file ? (const char *)file->bytes : "SELECT 'this build lacks a file'::pg_catalog.int4";
}

/* ── what is needed ── */

/* Adds an element to the text of an array. */
static void add_element(struct buffer *array, const char *text, size_t length) {
  buffer_add(array, array->length == 0 ? "{\"" : ",\"", 2);
  for (size_t i = 0; i < length; i++) {
    if (text[i] == '"' || text[i] == '\\')
      buffer_add(array, "\\", 1);
    buffer_add(array, text + i, 1);
  }
  buffer_add(array, "\"", 1);
}

static const char *end_array(struct buffer *array) {
  if (array->length == 0)
    buffer_add(array, "{", 1);
  buffer_add(array, "}", 2);
  return (const char *)array->bytes;
}

/* The body of a function is what stands between the two $pgq$ of its file. */
static void add_body(struct buffer *array, const char *file) {
  static const char mark[] = "$pgq$";
  const char *text = file_text(file), *begin = strstr(text, mark);
  begin = begin ? begin + sizeof mark - 1 : text;
  const char *end = strstr(begin, mark);
  add_element(array, begin, end ? (size_t)(end - begin) : 0);
}

static void fill(struct step *step, const PGresult *result) {
  snprintf(step->name, sizeof step->name, "%s", PQgetvalue(result, 0, STEP_NAME));
  snprintf(step->kind, sizeof step->kind, "%s", PQgetvalue(result, 0, STEP_KIND));
  snprintf(step->table, sizeof step->table, "%s", PQgetvalue(result, 0, STEP_TABLE));
  step->statement = PQgetisnull(result, 0, STEP_STATEMENT) ? NULL : memory_text(PQgetvalue(result, 0, STEP_STATEMENT));
  step->breaks = *PQgetvalue(result, 0, STEP_BREAKS) == 't';
}

int step_find(PGconn *conn, const struct steps_left_out *left_out, struct step *step) {
  struct buffer names = {0}, bodies = {0}, left = {0};
  char file[FILE_NAME_SIZE];
  for (int i = 0; i < FUNCTIONS; i++) {
    add_element(&names, function_names[i], strlen(function_names[i]));
    function_file(file, i);
    add_body(&bodies, file);
  }
  for (int i = 0; i < left_out->count; i++)
    add_element(&left, left_out->names[i], strlen(left_out->names[i]));
  const char *const values[] = {end_array(&names), end_array(&bodies), end_array(&left)};
  PGresult *result = NULL;
  *step = (struct step){0};
  if (step_begin(conn, true, PATIENT_MS) == 0)
    result = step_ask(conn, "looking at the tables", SQL_NEXT_STEP, 3, values);
  roll_back(conn);
  int found = result ? PQntuples(result) : -1;
  if (found > 0)
    fill(step, result);
  PQclear(result);
  buffer_free(&names);
  buffer_free(&bodies);
  buffer_free(&left);
  return found;
}

void step_free(struct step *step) {
  free(step->statement);
  *step = (struct step){0};
}

/* ── doing it ── */

/* Locks the table against other changes of its definition, then does the work with locks that are had at once or not at
 * all. Sessions that enqueue or claim do not wait for the first lock. */
static int lock_table(PGconn *conn, const struct step *step) {
  char sql[128];
  if (!*step->table || strcmp(step->kind, "file") == 0)
    return 0;
  snprintf(sql, sizeof sql, "LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE", step->table);
  return run(conn, step->name, sql);
}

static int run_files(PGconn *conn, const struct step *step) {
  if (strcmp(step->kind, "create") == 0)
    return run(conn, step->name, file_text("sql/create_table.sql"));
  if (strcmp(step->kind, "go") == 0)
    return run(conn, step->name, file_text("sql/upgrade.sql"));
  if (strcmp(step->kind, "file") == 0) {
    char name[128];
    snprintf(name, sizeof name, "sql/schema/%s.sql", step->table);
    return run(conn, step->name, file_text(name));
  }
  if (strcmp(step->kind, "trigger") == 0)
    return run(conn, step->name, file_text("sql/schema/pgq_ring_trigger.sql"));
  char file[FILE_NAME_SIZE];
  int status = 0;
  for (int i = 0; i < FUNCTIONS && status == 0; i++) {
    function_file(file, i);
    status = run(conn, step->name, file_text(file));
  }
  return status == 0 ? run(conn, step->name, file_text("sql/schema/pgq_search_path.sql")) : status;
}

static int try_in_transaction(PGconn *conn, const struct step *step) {
  bool makes_wait =
      strcmp(step->kind, "strong") == 0 || strcmp(step->kind, "trigger") == 0 || strcmp(step->kind, "go") == 0;
  int status = step_begin(conn, false, PATIENT_MS);
  if (status == 0)
    status = lock_table(conn, step);
  if (status == 0 && makes_wait)
    status = run(conn, step->name, "SELECT pg_catalog.set_config('lock_timeout', '200', true)");
  if (status == 0)
    status = step->statement ? run(conn, step->name, step->statement) : run_files(conn, step);
  if (status == 0)
    status = run(conn, step->name, "COMMIT");
  if (status != 0)
    roll_back(conn);
  return status;
}

/* A statement that cannot be in a transaction has settings of the session, which are reset at once: a pooler may give
 * this session to another client. */
static int try_alone(PGconn *conn, const struct step *step) {
  static const char settings[] =
      "SET statement_timeout = 0; SET lock_timeout = 0; SET default_transaction_read_only = off";
  int status = run(conn, step->name, settings);
  if (status == 0)
    status = run(conn, step->name, step->statement);
  PQclear(PQexec(conn, "RESET statement_timeout; RESET lock_timeout; RESET default_transaction_read_only"));
  return status;
}

static void tell(PGconn *conn, const struct step *step) {
  PGresult *result = step_begin(conn, true, PATIENT_MS) == 0
                         ? step_ask(conn, "looking for other sessions", SQL_BLOCKERS, 1, (const char *[]){step->table})
                         : NULL;
  const char *who = result && PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "another session";
  fprintf(stderr, "pgq-lua migrate: %s: %s uses %s; trying again until it has ended\n", step->name, who, step->table);
  PQclear(result);
  roll_back(conn);
}

static int leave_out(const struct step *step, struct steps_left_out *left_out) {
  if (left_out->count == STEPS_LEFT_OUT_MOST)
    return -1;
  memcpy(left_out->names[left_out->count++], step->name, STEP_TEXT);
  return 0;
}

/* Rows that an older version has accepted may not satisfy a check. They stay as they are; each fails alone. */
static int leave_check_out(const struct step *step, struct steps_left_out *left_out) {
  fprintf(stderr,
          "pgq-lua migrate: %s: there are older rows that the check does not allow; they stay, and fail alone\n",
          step->name);
  return leave_out(step, left_out);
}

int step_run(PGconn *conn, const struct step *step, struct steps_left_out *left_out) {
  bool alone = strcmp(step->kind, "alone") == 0, validates = strncmp(step->name, "checking the rows", 17) == 0;
  int64_t told_ms = 0;
  for (;;) {
    int status = alone ? try_alone(conn, step) : try_in_transaction(conn, step);
    if (status < 0 && validates && PQstatus(conn) == CONNECTION_OK)
      return leave_check_out(step, left_out);
    if (status == 0 && strcmp(step->kind, "rows") == 0)
      return leave_out(step, left_out);
    if (status <= 0)
      return status;
    if (told_ms == 0 || clock_ms() - told_ms >= TELL_AGAIN_MS) {
      tell(conn, step);
      told_ms = clock_ms();
    }
    nanosleep(&(struct timespec){.tv_sec = PAUSE_MS / 1000, .tv_nsec = PAUSE_MS % 1000 * 1000000}, NULL);
  }
}

/* ── comments ── */

static void add_comments(struct buffer *array, const char *text) {
  static const char begin[] = "COMMENT ON ";
  while (*text) {
    size_t length = strcspn(text, "\n");
    if (strncmp(text, begin, sizeof begin - 1) == 0)
      add_element(array, text, length);
    text += length + (text[length] == '\n');
  }
}

int step_comments(PGconn *conn) {
  struct buffer comments = {0};
  PGresult *result = NULL;
  add_comments(&comments, file_text("sql/create_table.sql"));
  const char *const values[] = {end_array(&comments)};
  if (step_begin(conn, true, PATIENT_MS) == 0)
    result = step_ask(conn, "looking at the comments", SQL_OTHER_COMMENTS, 1, values);
  roll_back(conn);
  buffer_free(&comments);
  int status = result ? 0 : -1;
  struct steps_left_out none = {0};
  for (int row = 0; result && row < PQntuples(result) && status == 0; row++) {
    struct step step = {.name = "writing comments", .kind = "weak", .table = "pgq_jobs"};
    step.statement = PQgetvalue(result, row, 0);
    status = step_run(conn, &step, &none);
  }
  PQclear(result);
  return status;
}
