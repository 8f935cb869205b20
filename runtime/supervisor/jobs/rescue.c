#include "rescue.h"

#include <stdio.h>
#include <string.h>

#include "log.h"
#include "settle.h"

void rescue_free(struct rescue *rescue) {
  batch_clear(&rescue->jobs);
}

void rescue_keep(struct rescue *rescue, struct batch *batch) {
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    job->written = false;
    job->tid = 0; /* the row may move once the transaction has ended */
    if ((job->outcome == OUTCOME_UNRUN && !job->lease) || job->outcome == OUTCOME_SETTLED)
      job_free(job);
    else
      batch_add(&rescue->jobs, job);
  }
  batch->count = 0; /* the jobs' texts have moved */
  batch_clear(batch);
}

void rescue_next(struct rescue *rescue, struct batch *batch, struct parameters *parameters) {
  struct batch *from = &rescue->jobs;
  int count = rescue->singly ? 1 : from->count;
  for (int i = 0; i < count; i++)
    batch_add(batch, &from->jobs[i]);
  from->count -= count;
  memmove(from->jobs, from->jobs + count, (size_t)from->count * sizeof *from->jobs);
  settle_lock_parameters(batch, parameters);
}

void rescue_drop_unlocked(struct batch *batch, void (*lost)(void *context, int64_t id), void *context) {
  int kept = 0;
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (job->written) {
      job->written = false;
      batch->jobs[kept++] = *job;
      continue;
    }
    if (job->outcome == OUTCOME_LEASE)
      lost(context, job->id);
    else if (job->outcome != OUTCOME_UNRUN)
      log_info("outcome not needed: the job was settled already, or another worker has it",
               LOG_T("queue", job->queue->name), LOG_I("job", job->id), LOG_I("attempt", job->attempt));
    job_free(job);
  }
  batch->count = kept;
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
