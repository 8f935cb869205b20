#include "cancel.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit.h"
#include "bulk.h"
#include "commands_sql.h"
#include "database.h"
#include "job_ids.h"
#include "one_by_one.h"

static const struct bulk_verb verb = {
    .command = "cancel",
    .usage = "cancel [options] ID… | SELECTION",
    .done = "cancelled",
    .sql = SQL_CANCEL_JOBS,
    .states = JOB_WAITING,
    .may_states = JOB_WAITING,
    .may_not = "only jobs that wait can be selected: give the ids of running ones",
    .needs = "{pgq_jobs SELECT,pgq_jobs UPDATE ran_at,pgq_jobs UPDATE cancelled,pgq_jobs UPDATE error,"
             "pgq_jobs UPDATE lease,pgq_jobs UPDATE started_at,pgq_jobs UPDATE deaths," AUDIT_NEEDS "}",
};

/* A role that may only cancel jobs whose ids it knows needs less. */
#define NEEDS_BY_ID                                                                                                    \
  "{pgq_jobs SELECT id,pgq_jobs SELECT lease,pgq_jobs SELECT ran_at,pgq_jobs SELECT error,pgq_jobs UPDATE ran_at,"     \
  "pgq_jobs UPDATE cancelled,pgq_jobs UPDATE error,pgq_jobs UPDATE lease,pgq_jobs UPDATE started_at,"                  \
  "pgq_jobs UPDATE deaths," AUDIT_NEEDS "}"

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

/* The answer of the database, or NULL with a message on stderr. */
static const struct answer_row *ask(struct transaction *transaction, const char *id) {
  PGresult *result = transaction_ask(transaction, SQL_CANCEL_JOB, 1, &id);
  if (!result)
    return NULL;
  const struct answer_row *answer = find_answer(PQgetvalue(result, 0, 0));
  if (!answer) {
    fprintf(stderr, "pgq-lua %s: pgq_cancel returned '%s', which this pgq-lua does not know\n", transaction->command,
            PQgetvalue(result, 0, 0));
    transaction_rollback(transaction);
  }
  PQclear(result);
  return answer;
}

/* Cancels a job in a transaction of its own. `changed`: how many were cancelled before. Returns the answer, or NULL
 * with a message on stderr. */
static const struct answer_row *cancel(struct transaction *transaction, struct audit *audit, const char *id,
                                       int64_t changed) {
  if (transaction_begin(transaction, false) != 0)
    return NULL;
  const struct answer_row *answer = ask(transaction, id);
  if (answer && ((answer->status == 0 && audit_write(audit, transaction, changed + 1) != 0) ||
                 transaction_commit(transaction) != 0))
    return NULL;
  return answer;
}

static int cancel_by_ids(const struct options *options, int argc, char **argv) {
  int64_t changed = 0;
  int status = 0;
  if (one_by_one_check(&verb, options, argc, argv) != 0)
    return 2;
  struct transaction transaction = {.needs = NEEDS_BY_ID, .lock_wait_ms = options->lock_wait_ms};
  transaction.conn = database_connect_as(options, "pgq-lua cancel");
  if (!transaction.conn)
    return 1;
  char *ids = job_ids_array(argc, argv), name[80];
  struct audit audit = {.verb = "cancel", .ids = ids};
  for (int i = 0; i < argc && PQstatus(transaction.conn) == CONNECTION_OK; i++) {
    snprintf(name, sizeof name, "cancel: job %s", argv[i]);
    transaction.command = name;
    const struct answer_row *answer = cancel(&transaction, &audit, argv[i], changed);
    changed += answer && answer->status == 0;
    status |= !answer || one_by_one_print("cancel", argv[i], answer->line) != 0 || answer->status != 0;
  }
  free(ids);
  PQfinish(transaction.conn);
  return status;
}

int cancel_command(const struct options *options, int argc, char **argv) {
  return argc > 0 ? cancel_by_ids(options, argc, argv) : bulk_run(&verb, options);
}
