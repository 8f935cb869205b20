#include "rescue.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "settle.h"

/* The wait before rows are tried again that other sessions have locked. */
enum { LOCKED_AGAIN_MS = 1000 };

void rescue_free(struct rescue *rescue) {
  batch_clear(&rescue->jobs);
}

void rescue_keep(struct rescue *rescue, struct batch *batch) {
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    job->written = false;
    job->tid = 0; /* the row may move once the transaction has ended */
    if ((job->outcome == OUTCOME_UNRUN && !job->leased) || job->outcome == OUTCOME_SETTLED ||
        job->outcome == OUTCOME_CANCELLED || job->outcome == OUTCOME_EXTEND) /* the next claim meets it again */
      job_free(job);
    else
      batch_add(&rescue->jobs, job);
  }
  batch->count = 0; /* the jobs' texts have moved */
  batch_clear(batch);
}

/* An outcome under a lease that was never written, either: the row is still as it was claimed. The copy of the job that
 * was to write the lease is dropped. */
static void settle_without_lease(struct batch *batch, struct job *job) {
  for (int i = 0; i < batch->count; i++) {
    struct job *other = &batch->jobs[i];
    if (other->id != job->id || other->outcome != OUTCOME_LEASE || other->written)
      continue;
    other->outcome = OUTCOME_NONE; /* nothing to write */
    job->leased = false;
  }
}

int rescue_keep_ignored(struct rescue *rescue, struct batch *batch) {
  int kept = 0, most = 0;
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].outcome != OUTCOME_LEASE && batch->jobs[i].leased && settle_is_ignored(&batch->jobs[i]))
      settle_without_lease(batch, &batch->jobs[i]);
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (!settle_is_ignored(job)) {
      batch->jobs[kept++] = *job;
      continue;
    }
    job_ignore(job);
    job->tid = 0;
    most = job->ignored > most ? job->ignored : most;
    batch_add(&rescue->jobs, job);
  }
  batch->count = kept;
  return most;
}

const struct job *rescue_find_ignored(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].ignored > 1)
      return &batch->jobs[i];
  return NULL;
}

bool rescue_is_due(const struct rescue *rescue) {
  return rescue->jobs.count > 0 && (!rescue->locked || clock_ms() >= rescue->again_ms);
}

enum statement rescue_next(struct rescue *rescue, struct batch *batch, struct parameters *parameters) {
  struct batch *from = &rescue->jobs;
  int count = rescue->singly ? 1 : from->count;
  for (int i = 0; i < count; i++)
    batch_add(batch, &from->jobs[i]);
  from->count -= count;
  memmove(from->jobs, from->jobs + count, (size_t)from->count * sizeof *from->jobs);
  settle_lock_parameters(batch, parameters);
  bool wait = rescue->wait;
  rescue->wait = rescue->locked = false;
  return wait ? STATEMENT_WAIT_FOR_RESCUE : STATEMENT_LOCK_FOR_RESCUE;
}

static const char *name_of(enum outcome outcome) {
  return outcome == OUTCOME_COMPLETE ? "complete" : outcome == OUTCOME_SNOOZE ? "snooze" : "fail";
}

static void drop_job(struct job *job, void (*lost)(void *context, int64_t id), void *context) {
  if (job->outcome == OUTCOME_LEASE)
    lost(context, job->id);
  else if (job->outcome != OUTCOME_UNRUN && job->leased && job->ignored > 0)
    log_warn("outcome dropped: the job no longer belongs to this worker", LOG_T("queue", job->queue->name),
             LOG_I("job", job->id), LOG_I("attempt", job->attempt), LOG_T("outcome", name_of(job->outcome)),
             LOG_T("error", job->error));
  else if (job->outcome != OUTCOME_UNRUN)
    log_line(job->ignored > 0 ? LOG_DEBUG : LOG_INFO, /* another row of the same statement was ignored */
             "outcome not needed: the job was settled already, or another worker has it",
             LOG_T("queue", job->queue->name), LOG_I("job", job->id), LOG_I("attempt", job->attempt));
  job_free(job);
}

static void keep_locked(struct rescue *rescue, const struct job *job) {
  if (!rescue->locked)
    log_info("outcome not written yet: another session has locked the row of the job; trying again",
             LOG_T("queue", job->queue->name), LOG_I("job", job->id), LOG_US("retry_in", LOCKED_AGAIN_MS * 1000));
  rescue->locked = true;
  rescue->again_ms = clock_ms() + LOCKED_AGAIN_MS;
  batch_add(&rescue->jobs, job);
}

void rescue_sort(struct rescue *rescue, struct batch *batch, void (*lost)(void *context, int64_t id), void *context) {
  int kept = 0;
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (job->written)
      batch->jobs[kept++] = *job;
    else if (job->locked_elsewhere)
      keep_locked(rescue, job);
    else
      drop_job(job, lost, context);
  }
  batch->count = kept;
  for (int i = 0; i < kept; i++)
    batch->jobs[i].written = false;
  for (int i = 0; i < rescue->jobs.count; i++)
    rescue->jobs.jobs[i].locked_elsewhere = false;
}

void rescue_blame(struct job *job, const char *message) {
  char text[1200];
  snprintf(text, sizeof text, "could not be settled: %s", message);
  log_error("a job cannot be settled", LOG_T("queue", job->queue->name), LOG_I("job", job->id),
            LOG_T("error", message));
  job_fail_for_good(job, text);
  job->blamed = true;
}
