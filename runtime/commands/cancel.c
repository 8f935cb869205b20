#include "cancel.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "database.h"
#include "failure.h"

/* The answers of pgq_cancel() (sql/schema/pgq_cancel.sql), and the line that is printed for each. */
struct answer_row {
  const char *answer;
  const char *line;
  int status;
};

static const struct answer_row answers[] = {
    {"cancelled", "cancelled", 0},
    {"running", "running: its handler is being cancelled", 0},
    {"ended", "has ended already", 1},
    {"unknown", "unknown: there is no such job", 1},
};

static const struct answer_row *find_answer(const char *text) {
  for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
    if (strcmp(text, answers[i].answer) == 0)
      return &answers[i];
  return NULL;
}

/* Returns the problem with an id as the end of a sentence, or NULL. */
static const char *find_misuse(const char *word) {
  const char *digits = word + (*word == '-');
  if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
    return "is not a whole number; write the ids of jobs, as enqueueing printed them";
  errno = 0;
  strtoll(word, NULL, 10);
  return errno == ERANGE ? "is too large for the id of a job" : NULL;
}

static void explain(const PGconn *conn, const PGresult *result, const char *id) {
  struct pgq_error error;
  failure_from_result(&error, conn, result);
  bool missing = strcmp(error.sqlstate, "42883") == 0 || strcmp(error.sqlstate, "42P01") == 0;
  fprintf(stderr, "pgq-lua cancel: job %s: %s%s\n", id, error.message,
          missing ? "; run `pgq-lua migrate` to create what is missing" : "");
}

/* Runs a statement without a result. Returns 0, or -1 with a message on stderr. */
static int run(PGconn *conn, const char *sql, const char *id) {
  PGresult *result = PQexec(conn, sql);
  bool good = PQresultStatus(result) == PGRES_COMMAND_OK;
  if (!good)
    explain(conn, result, id);
  PQclear(result);
  return good ? 0 : -1;
}

/* The answer of the database, or NULL with a message on stderr. */
static const struct answer_row *ask(PGconn *conn, const char *id) {
  static const char sql[] = "SELECT pgq_cancel($1::pg_catalog.int8)";
  PGresult *result = PQexecParams(conn, sql, 1, NULL, &id, NULL, NULL, 0);
  const struct answer_row *answer = NULL;
  if (PQresultStatus(result) != PGRES_TUPLES_OK)
    explain(conn, result, id);
  else if (!(answer = find_answer(PQgetvalue(result, 0, 0))))
    fprintf(stderr, "pgq-lua cancel: job %s: pgq_cancel returned '%s', which this pgq-lua does not know\n", id,
            PQgetvalue(result, 0, 0));
  PQclear(result);
  return answer;
}

/*
 * Cancels a job in a transaction of its own. Its isolation level is named because the database or the role may have
 * another default: there pgq_cancel fails if the row changes while the call waits for its lock.
 */
static const struct answer_row *cancel(PGconn *conn, const char *id) {
  if (run(conn, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", id) != 0)
    return NULL;
  const struct answer_row *answer = ask(conn, id);
  if (answer)
    return run(conn, "COMMIT", id) == 0 ? answer : NULL;
  PQclear(PQexec(conn, "ROLLBACK"));
  return NULL;
}

/* Cancels a job and prints a line about it. Returns 0, or 1 if the job was not cancelled or the line not printed. */
static int cancel_and_tell(PGconn *conn, const char *id) {
  const struct answer_row *answer = cancel(conn, id);
  if (!answer)
    return 1;
  printf("%" PRId64 " %s\n", (int64_t)strtoll(id, NULL, 10), answer->line);
  if (fflush(stdout) == 0)
    return answer->status;
  fprintf(stderr, "pgq-lua cancel: job %s: %s; but that could not be printed: %s\n", id, answer->line, strerror(errno));
  return 1;
}

int cancel_command(const struct options *options, int argc, char **argv) {
  const char *misuse = argc < 1 ? "the id of a job is missing" : NULL;
  int status = 0, bad = -1;
  for (int i = 0; i < argc && !misuse; i++)
    misuse = find_misuse(argv[bad = i]);
  if (misuse && bad >= 0)
    fprintf(stderr, "pgq-lua cancel: '%.100s' %s\nusage: pgq-lua cancel [options] ID…\n", argv[bad], misuse);
  else if (misuse)
    fprintf(stderr, "pgq-lua cancel: %s\nusage: pgq-lua cancel [options] ID…\n", misuse);
  if (misuse)
    return 2;
  PGconn *conn = database_connect(options);
  if (!conn)
    return 1;
  for (int i = 0; i < argc && PQstatus(conn) == CONNECTION_OK; i++)
    status |= cancel_and_tell(conn, argv[i]);
  PQfinish(conn);
  return status;
}
