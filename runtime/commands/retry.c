#include "retry.h"

#include "audit.h"
#include "bulk.h"
#include "commands_sql.h"
#include "one_by_one.h"

static const struct bulk_verb retry_verb = {
    .command = "retry",
    .usage = "retry [options] ID… | SELECTION",
    .done = "retried",
    .sql = SQL_RETRY_JOBS,
    .keeps_waits = true,
    .states = JOB_FAILED,
    .may_states = JOB_WAITING | JOB_ENDED,
    .may_not = "a running job cannot be retried before it ends",
    .needs = "{pgq_jobs SELECT,pgq_jobs UPDATE run_after,pgq_jobs UPDATE retry_waits,pgq_jobs UPDATE attempt,"
             "pgq_jobs UPDATE ran_at,pgq_jobs UPDATE error,pgq_jobs UPDATE cancelled,pgq_jobs UPDATE lease,"
             "pgq_jobs UPDATE started_at,pgq_jobs UPDATE deaths," AUDIT_NEEDS "}",
};

static const struct bulk_verb delete_verb = {
    .command = "delete",
    .usage = "delete [options] ID… | SELECTION",
    .done = "deleted",
    .sql = SQL_DELETE_JOBS,
    .states = JOB_ENDED,
    .may_states = JOB_ENDED,
    .may_not = "only jobs that have ended can be deleted; cancel others first",
    .needs = "{pgq_jobs SELECT,pgq_jobs UPDATE run_after,pgq_jobs DELETE," AUDIT_NEEDS "}",
};

static int run(const struct bulk_verb *verb, const struct options *options, int argc, char **argv) {
  return argc > 0 ? one_by_one_run(verb, options, argc, argv) : bulk_run(verb, options);
}

int retry_command(const struct options *options, int argc, char **argv) {
  return run(&retry_verb, options, argc, argv);
}

int delete_command(const struct options *options, int argc, char **argv) {
  return run(&delete_verb, options, argc, argv);
}
