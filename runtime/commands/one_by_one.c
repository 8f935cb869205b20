#include "one_by_one.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit.h"
#include "commands_sql.h"
#include "database.h"
#include "job_ids.h"
#include "refusal.h"

struct run {
  const struct bulk_verb *verb;
  const struct one_by_one_change *change;
  struct transaction transaction;
  struct audit audit;
  int64_t changed;
};

int one_by_one_check(const struct bulk_verb *verb, const struct options *options, int argc, char **argv) {
  if (job_ids_check(verb->command, argc, argv, verb->usage) != 0)
    return -1;
  const char *extra = options->queue    ? "--queue"
                      : options->state  ? "--state"
                      : options->error  ? "--error"
                      : options->since  ? "--since"
                      : options->before ? "--before"
                      : options->meta   ? "--meta"
                      : options->all    ? "--all"
                                        : NULL;
  if (!extra && !options->dry_run && options->limit == 0)
    return 0;
  refuse(verb->command, verb->usage, "%s cannot be given together with ids",
         extra              ? extra
         : options->dry_run ? "--dry-run"
                            : "--limit");
  return -1;
}

int one_by_one_print(const char *command, const char *id, const char *line) {
  printf("%" PRId64 " %s\n", (int64_t)strtoll(id, NULL, 10), line);
  if (fflush(stdout) == 0)
    return 0;
  fprintf(stderr, "pgq-lua %s: job %s: %s; but that could not be printed: %s\n", command, id, line, strerror(errno));
  return -1;
}

/* Locks the row, and writes the state of the job, or "" if there is no such job. Returns 0, or -1 after printing a
 * message. */
static int lock(struct run *run, const char *id, char state[16]) {
  state[0] = '\0';
  PGresult *result = transaction_ask(&run->transaction, SQL_LOCK_JOB, 1, &id);
  if (!result)
    return -1;
  PQclear(result);
  if (!(result = transaction_ask(&run->transaction, SQL_JOB_STATE, 1, &id)))
    return -1;
  if (PQntuples(result) > 0)
    snprintf(state, 16, "%s", PQgetvalue(result, 0, 0));
  PQclear(result);
  return 0;
}

/* Changes the job, whose row is locked, and commits. Returns 0, or -1 after printing a message. */
static int change(struct run *run, const char *id) {
  char ids[32];
  snprintf(ids, sizeof ids, "{%s}", id);
  PGresult *result = run->change->change(&run->transaction, ids, run->change->context);
  if (!result)
    return -1;
  bool changed = strcmp(PQgetvalue(result, 0, CHANGE_CHANGED), "1") == 0;
  bool unfit = PQnfields(result) > CHANGE_UNFIT && strcmp(PQgetvalue(result, 0, CHANGE_UNFIT), "0") != 0;
  PQclear(result);
  if (!changed) {
    transaction_rollback(&run->transaction);
    fprintf(stderr, "pgq-lua %s: it could not be changed: %s\n", run->transaction.command,
            unfit ? CHANGE_UNFIT_ADVICE : "a trigger, rule or row security of pgq_jobs keeps it");
    return -1;
  }
  return audit_write(&run->audit, &run->transaction, run->changed + 1) == 0 ? transaction_commit(&run->transaction)
                                                                            : -1;
}

/* Returns 0, or 1 if the job was not changed. */
static int change_and_tell(struct run *run, const char *id) {
  char name[80], line[200], state[16];
  snprintf(name, sizeof name, "%s: job %s", run->verb->command, id);
  run->transaction.command = name;
  if (transaction_begin(&run->transaction, false) != 0 || lock(run, id, state) != 0)
    return 1;
  bool may = false;
  for (unsigned bit = 1; bit <= JOB_CANCELLED && *state; bit <<= 1) {
    char text[80], wanted[20];
    selection_states(bit, text, sizeof text);
    snprintf(wanted, sizeof wanted, "{%s}", state);
    may = may || (strcmp(text, wanted) == 0 && (run->verb->may_states & bit));
  }
  if (may && change(run, id) != 0)
    return 1;
  if (!may)
    transaction_rollback(&run->transaction);
  run->changed += may;
  if (may)
    snprintf(line, sizeof line, "%s", run->verb->done);
  else if (*state)
    snprintf(line, sizeof line, "is %s: %s", state, run->verb->may_not);
  else
    snprintf(line, sizeof line, "unknown: there is no such job");
  return one_by_one_print(run->verb->command, id, line) == 0 && may ? 0 : 1;
}

/* Runs the verb's own statement. */
struct statement {
  const struct bulk_verb *verb;
  bool keep_waits;
};

static PGresult *on_change(struct transaction *transaction, const char *ids, void *context) {
  const struct statement *statement = context;
  const char *values[] = {ids, statement->keep_waits ? "t" : "f"};
  return transaction_ask(transaction, statement->verb->sql, statement->verb->keeps_waits ? 2 : 1, values);
}

int one_by_one_run(const struct bulk_verb *verb, const struct options *options, int argc, char **argv) {
  struct statement statement = {verb, options->keep_waits};
  struct one_by_one_change change = {on_change, &statement, options->keep_waits ? "--keep-waits" : NULL};
  return one_by_one_check(verb, options, argc, argv) == 0 ? one_by_one_run_change(verb, options, &change, argc, argv)
                                                          : 2;
}

int one_by_one_run_change(const struct bulk_verb *verb, const struct options *options,
                          const struct one_by_one_change *own, int argc, char **argv) {
  char application[32];
  int status = 0;
  snprintf(application, sizeof application, "pgq-lua %s", verb->command);
  char *ids = job_ids_array(argc, argv);
  struct run run = {
      .verb = verb,
      .change = own,
      .transaction = {.needs = verb->needs, .lock_wait_ms = options->lock_wait_ms},
      .audit = {.verb = verb->command, .ids = ids, .detail = own->detail},
  };
  run.transaction.conn = database_connect_as(options, application);
  if (!run.transaction.conn)
    status = 1;
  for (int i = 0; i < argc && run.transaction.conn && PQstatus(run.transaction.conn) == CONNECTION_OK; i++)
    if (!run.transaction.refused) /* no job takes a value that cannot be read */
      status |= change_and_tell(&run, argv[i]);
  PQfinish(run.transaction.conn);
  free(ids);
  return run.transaction.refused ? 2 : status;
}
