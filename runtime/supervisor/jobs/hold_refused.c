/* The part of hold.h about writes that the database refuses or ignores for single rows: because of a trigger, a rule or
 * row security. Only these jobs wait; the hold goes on with others. */
#include "hold_state.h"

#include "clock.h"
#include "log.h"
#include "settle.h"

/* ── writes that the database ignores ── */

void hold_forget_ignored(struct hold *hold) {
  hold->ignored = 0;
  hold->suppressed = NULL;
  if (hold->is_ignored)
    claim_gate_remove_ignored(hold->start.gate);
  hold->is_ignored = false;
}

void hold_ask_suppressor(struct hold *hold) {
  struct parameters parameters = {0};
  if (!hold->suppressed)
    return;
  parameters_add_text(&parameters, hold->suppressed);
  connection_send(hold->connection, STATEMENT_FIND_SUPPRESSOR, &parameters);
  parameters_free(&parameters);
}

/* Says once why the database ignores writes of this hold. */
void hold_log_suppressor(struct hold *hold, const PGresult *result) {
  const struct job *job = rescue_find_ignored(&hold->settling);
  job = job ? job : refused_find_ignored(&hold->refused);
  const char *cause = PQgetisnull(result, 0, 0) ? "unknown: no trigger, rule or row security of pgq_jobs was found"
                                                : PQgetvalue(result, 0, 0);
  log_error("the database ignores writes of this worker: outcomes are kept and tried again", LOG_T("hold", hold->name),
            job ? LOG_T("queue", job->queue->name) : (struct log_field){0},
            job ? LOG_I("job", job->id) : (struct log_field){0}, LOG_T("statement", hold->suppressed),
            LOG_T("cause", cause));
  hold->suppressed = NULL;
}

/* The cause is asked in the next act. Another hold may ask already. */
static void find_cause(struct hold *hold, const struct job *job) {
  if (hold->is_ignored)
    return;
  hold->is_ignored = true;
  if (claim_gate_add_ignored(hold->start.gate))
    hold->suppressed = settle_event(job);
}

/* The checks of the hold find out when the job is due. */
static void keep(struct hold *hold, struct job *job) {
  refused_keep(&hold->refused, job);
  hold_start_checks(hold);
}

/* Jobs whose writes were ignored for certain wait by themselves. */
static void keep_certain(struct hold *hold) {
  struct batch *jobs = &hold->rescue.jobs;
  int kept = 0;
  for (int i = 0; i < jobs->count; i++)
    if (jobs->jobs[i].ignored > 1)
      keep(hold, &jobs->jobs[i]);
    else
      jobs->jobs[kept++] = jobs->jobs[i];
  jobs->count = kept;
}

void hold_keep_ignored(struct hold *hold) {
  if (hold->state == HOLD_LEASING)
    hold_forget_ignored_leases(hold);
  hold->ignored = rescue_keep_ignored(&hold->rescue, &hold->settling);
  if (hold->ignored > 1)
    keep_certain(hold);
  hold->ignored = hold->rescue.jobs.count > 0 ? hold->ignored : 0;
  const struct job *job = refused_find_ignored(&hold->refused);
  if (job)
    find_cause(hold, job);
  else if (hold->ignored == 0)
    hold_forget_ignored(hold);
}

/* ── writes that the database refuses ── */

static void log_refused(const struct hold *hold, const struct job *job) {
  log_error("the database refuses to write a job: it is kept and tried again", LOG_T("queue", job->queue->name),
            LOG_I("job", job->id), LOG_T("statement", settle_event(job)), LOG_T("sqlstate", hold->error.sqlstate),
            LOG_T("error", hold_error_message(&hold->error)));
}

void hold_refuse(struct hold *hold) {
  struct job *job = &hold->settling.jobs[0];
  if (job->outcome != OUTCOME_LEASE && hold_error_is_content(&hold->error) && !job->blamed && !job->refused) {
    rescue_blame(job, hold_error_message(&hold->error));
    return;
  }
  if (!job->refused)
    log_refused(hold, job);
  keep(hold, job);
  hold->settling.count = 0;
}

void hold_refuse_leases(struct hold *hold) {
  struct job *job = &hold->settling.jobs[0];
  if (hold->settling.count > 1) /* any of them may be the cause: one at a time will show which */
    queue_refuse(job->queue, clock_ms());
  else if (hold->settling.count == 1 && refused_keep_unrun(&hold->refused, job))
    log_refused(hold, job);
}

/* ── afterwards ── */

/* Whether the queue's outcomes can be written, as this job shows. That a lease could be written shows it only while no
 * outcome of the queue is kept. */
static bool is_evidence(const struct job *job) {
  switch (job->outcome) {
  case OUTCOME_COMPLETE:
  case OUTCOME_FAIL:
  case OUTCOME_SNOOZE:
    return job->written;
  case OUTCOME_LEASE:
    return job->written && job->queue->ignored == 0;
  case OUTCOME_SETTLED:
    return true;
  default:
    return false;
  }
}

bool hold_take_written(struct hold *hold) {
  bool more = false, mended = false;
  for (int i = 0; i < hold->settling.count; i++) {
    struct job *job = &hold->settling.jobs[i];
    if (job->queue->refused_in_a_row > 0 && is_evidence(job))
      more = queue_wrote(job->queue) || more;
    if (!job->written)
      continue;
    mended = mended || job->refused;
    hold->renew = hold->renew || job->ignored > 1;
  }
  if (mended)
    refused_retry(&hold->refused);
  return more || mended;
}

void hold_split_from_refused_leases(struct hold *hold) {
  int kept = 0;
  for (int i = 0; i < hold->settling.count; i++) {
    struct job *job = &hold->settling.jobs[i];
    if (job->leased && job->outcome != OUTCOME_LEASE && refused_take_lease(&hold->refused, job->id)) {
      job->leased = false;
      batch_add(&hold->rescue.jobs, job);
    } else {
      hold->settling.jobs[kept++] = *job;
    }
  }
  hold->settling.count = kept;
}
