#include "pause.h"

#include <stdio.h>
#include <string.h>

#include "commands_sql.h"
#include "database.h"
#include "printable.h"
#include "refusal.h"
#include "transaction.h"

/* What pgq_pause() and pgq_resume() need, and the look at pgq_workers. */
#define NEEDS                                                                                                          \
  "{pgq_queues SELECT,pgq_queues INSERT,pgq_queues UPDATE,pgq_audit INSERT verb,pgq_audit INSERT selection,"           \
  "pgq_audit INSERT count,pgq_audit INSERT detail,pgq_workers SELECT queues}"

/* Runs the statement in a transaction of its own. Returns its row, or NULL after printing a message. */
static PGresult *run(const struct options *options, const char *command, const char *sql, int count,
                     const char *const *values) {
  struct transaction transaction = {.command = command, .needs = NEEDS, .lock_wait_ms = options->lock_wait_ms};
  char application[32];
  PGresult *result = NULL;
  snprintf(application, sizeof application, "pgq-lua %s", command);
  transaction.conn = database_connect_as(options, application);
  if (!transaction.conn)
    return NULL;
  if (transaction_begin(&transaction, false) == 0)
    result = transaction_ask(&transaction, sql, count, values);
  if (result && transaction_commit(&transaction) != 0) {
    PQclear(result);
    result = NULL;
  }
  PQfinish(transaction.conn);
  return result;
}

static int misuse(const char *command, const char *problem) {
  char usage[40];
  snprintf(usage, sizeof usage, "%s [options] QUEUE", command);
  return refuse(command, usage, "%s", problem);
}

/* Returns the problem with the words of the command, or NULL. */
static const char *find_misuse(int argc, char **argv) {
  if (argc < 1 || *argv[0] == '\0')
    return "the name of the queue is missing";
  return argc > 1 ? "there is more than one queue; each needs a command of its own" : NULL;
}

/* The name as it is printed: the database has taken it, so it is valid in its encoding. The caller frees it. */
static struct buffer printed(const char *queue) {
  struct buffer name = {0};
  printable_add(&name, queue, PRINTABLE_CELL);
  buffer_add(&name, "", 1);
  return name;
}

/* A misspelt name is no error, since its worker may be started later. */
static void note_unserved(const char *command, const char *queue, const PGresult *result, int column) {
  if (*PQgetvalue(result, 0, column) == 'f')
    fprintf(stderr, "pgq-lua %s: note: no running worker serves a queue '%s'\n", command, queue);
}

int pause_command(const struct options *options, int argc, char **argv) {
  char interval[40];
  const char *problem = find_misuse(argc, argv);
  if (problem)
    return misuse("pause", problem);
  snprintf(interval, sizeof interval, "%lld milliseconds", (long long)options->for_ms);
  PGresult *result = run(options, "pause", SQL_PAUSE_QUEUE, 3,
                         (const char *[]){argv[0], options->for_ms > 0 ? interval : NULL, options->reason});
  if (!result)
    return 1;
  struct buffer name = printed(argv[0]);
  const char *queue = (const char *)name.bytes;
  if (options->for_ms > 0)
    printf("%s is paused until %s\n", queue, PQgetvalue(result, 0, 0));
  else
    printf("%s is paused until it is resumed\n", queue);
  fflush(stdout);
  note_unserved("pause", queue, result, 2);
  buffer_free(&name);
  PQclear(result);
  return 0;
}

int resume_command(const struct options *options, int argc, char **argv) {
  const char *problem = find_misuse(argc, argv);
  if (problem)
    return misuse("resume", problem);
  PGresult *result = run(options, "resume", SQL_RESUME_QUEUE, 1, (const char *[]){argv[0]});
  if (!result)
    return 1;
  bool was_paused = strcmp(PQgetvalue(result, 0, 0), "resumed") == 0;
  struct buffer name = printed(argv[0]);
  const char *queue = (const char *)name.bytes;
  printf(was_paused ? "%s is resumed\n" : "%s was not paused; if it backs off, this ends now\n", queue);
  fflush(stdout);
  note_unserved("resume", queue, result, 1);
  buffer_free(&name);
  PQclear(result);
  return 0;
}
