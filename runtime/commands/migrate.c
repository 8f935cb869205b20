#include "migrate.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "database.h"
#include "migrate_sql.h"
#include "migrate_steps.h"

enum { LOCK_AGAIN_MS = 200 };

static bool has_text(const PGresult *result) {
  return result && PQntuples(result) > 0 && !PQgetisnull(result, 0, 0);
}

/*
 * Takes the lock that lets one migration run at a time, in a transaction of a session of its own: there it ends with
 * the transaction, also behind a pooler, while the steps need transactions of their own. Waits for another migration.
 * Returns the session, whose end frees the lock; or NULL after printing a message.
 */
static PGconn *lock(const struct options *options) {
  static const char sql[] = "SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('pgq-lua migrate'))";
  PGconn *conn = database_connect(options);
  if (!conn)
    return NULL;
  bool told = false, failed = step_begin(conn, false, 0) != 0;
  while (!failed) {
    /* A simple query: one with parameters would keep its snapshot, for which CREATE INDEX CONCURRENTLY waits. */
    PGresult *result = PQexec(conn, sql);
    bool locked = has_text(result) && *PQgetvalue(result, 0, 0) == 't';
    failed = PQresultStatus(result) != PGRES_TUPLES_OK;
    if (failed)
      fprintf(stderr, "pgq-lua migrate: cannot lock out other migrations: %s", PQerrorMessage(conn));
    PQclear(result);
    if (locked)
      return conn;
    if (!told && !failed)
      fputs("pgq-lua migrate: another migration of this database runs: waiting for its end\n", stderr);
    told = true;
    nanosleep(&(struct timespec){.tv_nsec = LOCK_AGAIN_MS * 1000000}, NULL);
  }
  PQfinish(conn);
  return NULL;
}

/* Returns whether the step may be done while these workers run; if not, after printing which of them are in the way. */
static bool workers_allow(PGconn *conn, const struct options *options, const struct step *step) {
  if (!step->breaks || options->force)
    return true;
  PGresult *there = NULL, *workers = NULL;
  if (step_begin(conn, true, 0) == 0)
    there = step_ask(conn, "looking for workers", "SELECT pg_catalog.to_regclass('pgq_workers')", 0, NULL);
  if (has_text(there))
    workers = step_ask(conn, "looking for workers", SQL_OLD_WORKERS, 0, NULL);
  bool allowed = there && (!has_text(there) || (workers && !has_text(workers)));
  if (has_text(workers))
    fprintf(stderr,
            "pgq-lua migrate: nothing was changed: workers are running that cannot work with the new tables: %s; stop "
            "them, or use --force\n",
            PQgetvalue(workers, 0, 0));
  PQclear(workers);
  PQclear(there);
  PQclear(PQexec(conn, "ROLLBACK"));
  return allowed;
}

static bool is_standby(PGconn *conn) {
  PGresult *result = step_ask(conn, "looking at the server", "SELECT pg_catalog.pg_is_in_recovery()", 0, NULL);
  bool standby = has_text(result) && *PQgetvalue(result, 0, 0) == 't';
  if (standby)
    fputs("pgq-lua migrate: the tables are not up to date, and this server is a standby: run it on the primary\n",
          stderr);
  PQclear(result);
  return standby;
}

/* Does what is needed, step by step. Returns 0, or -1 after printing a message. */
static int take_steps(PGconn *conn, const struct options *options, bool quiet) {
  struct steps_left_out left_out = {0};
  struct step step;
  int found, status = 0;
  while (status == 0 && (found = step_find(conn, &left_out, &step)) != 0) {
    status = found < 0 ? -1 : 0;
    if (found > 0 && strcmp(step.kind, "refuse") == 0) {
      fprintf(stderr, "pgq-lua migrate: nothing was changed: %s\n", step.name);
      status = -1;
    } else if (found > 0 && !workers_allow(conn, options, &step)) {
      status = -1;
    } else if (found > 0) {
      if (!quiet) {
        puts(step.name);
        fflush(stdout);
      }
      status = step_run(conn, &step, &left_out);
    }
    step_free(&step);
  }
  return status == 0 ? step_comments(conn) : -1;
}

static int migrate(const struct options *options, bool quiet) {
  struct steps_left_out none = {0};
  struct step step;
  PGconn *conn = database_connect(options), *locked = NULL;
  if (!conn)
    return 1;
  int status = step_find(conn, &none, &step);
  step_free(&step);
  if (status > 0 && is_standby(conn))
    status = -1;
  if (status > 0)
    status = (locked = lock(options)) ? take_steps(conn, options, quiet) : -1;
  else if (status == 0)
    status = step_comments(conn);
  PQfinish(locked);
  PQfinish(conn);
  return status == 0 ? 0 : 1;
}

int migrate_quietly(const struct options *options) {
  return migrate(options, true);
}

int migrate_command(const struct options *options) {
  int status = migrate(options, false);
  if (status == 0)
    puts("the tables and functions of pgq-lua are up to date");
  return status;
}
