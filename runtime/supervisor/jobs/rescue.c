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
    if ((job->outcome == OUTCOME_UNRUN && !job->leased) || job->outcome == OUTCOME_SETTLED)
      job_free(job);
    else
      batch_add(&rescue->jobs, job);
  }
  batch->count = 0; /* the jobs' texts have moved */
  batch_clear(batch);
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

static void drop_job(struct job *job, void (*lost)(void *context, int64_t id), void *context) {
  if (job->outcome == OUTCOME_LEASE)
    lost(context, job->id);
  else if (job->outcome != OUTCOME_UNRUN)
    log_info("outcome not needed: the job was settled already, or another worker has it",
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

void rescue_blame(struct batch *batch, const char *message, void (*lost)(void *context, int64_t id), void *context) {
  struct job *job = &batch->jobs[0];
  int64_t id = job->id;
  bool lease = job->outcome == OUTCOME_LEASE;
  char text[1200];
  snprintf(text, sizeof text, "could not be settled: %s", message);
  log_error("a job cannot be settled", LOG_T("queue", job->queue->name), LOG_I("job", id), LOG_T("error", message));
  if (!lease && !job->blamed) {
    job_fail_for_good(job, text);
    job->blamed = true;
    return;
  }
  batch_clear(batch);
  if (lease)
    lost(context, id);
}
