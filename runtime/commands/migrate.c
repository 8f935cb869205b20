#include "migrate.h"

#include <stdio.h>
#include <string.h>

#include "database.h"
#include "embedded.h"

/* Runs the text, which may have several statements. Returns 0, or -1 after printing a message that names `what`. */
static int run(PGconn *conn, const char *what, const char *sql) {
  PGresult *result = PQexec(conn, sql);
  ExecStatusType status = PQresultStatus(result);
  bool good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
  if (!good)
    fprintf(stderr, "pgq-lua: %s failed, and nothing was changed: %s", what, PQresultErrorMessage(result));
  PQclear(result);
  return good ? 0 : -1;
}

static int run_file(PGconn *conn, const char *name) {
  const struct embedded_file *file = embedded_find(name);
  if (!file) {
    fprintf(stderr, "pgq-lua: this build does not contain %s\n", name);
    return -1;
  }
  return run(conn, name, (const char *)file->bytes);
}

int migrate_quietly(const struct options *options) {
  PGconn *conn = database_connect(options);
  if (!conn)
    return 1;
  bool done = run(conn, "BEGIN", "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE") == 0 &&
              run_file(conn, "sql/upgrade.sql") == 0 && run_file(conn, "sql/create_table.sql") == 0 &&
              run(conn, "COMMIT", "COMMIT") == 0;
  PQfinish(conn); /* rolls back a transaction that was not committed */
  return done ? 0 : 1;
}

int migrate_command(const struct options *options) {
  int status = migrate_quietly(options);
  if (status == 0)
    puts("pgq_jobs, pgq_workers, pgq_frontiers, pgq_enqueue and pgq_cancel are up to date");
  return status;
}
