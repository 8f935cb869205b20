/* The part of hold.h about jobs that a claim brings although this worker has them in hand already. */
#include "hold_state.h"

#include <stdlib.h>

#include "log.h"
#include "memory.h"

/* All holds of this process. */
static struct hold *first;

void hold_register(struct hold *hold) {
  hold->next = first;
  first = hold;
}

void hold_unregister(struct hold *hold) {
  for (struct hold **place = &first; *place; place = &(*place)->next)
    if (*place == hold) {
      *place = hold->next;
      return;
    }
}

static bool has_unwritten(const struct batch *batch, int64_t id) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].id == id && batch->jobs[i].outcome != OUTCOME_EXTEND)
      return true;
  return false;
}

/* Whether a hold has an outcome of the job that is not written yet. */
static bool is_unwritten(int64_t id) {
  for (const struct hold *hold = first; hold; hold = hold->next)
    if (has_unwritten(&hold->rescue.jobs, id) || has_unwritten(&hold->refused.jobs, id) ||
        has_unwritten(&hold->settling, id))
      return true;
  return false;
}

static bool any_unwritten(void) {
  for (const struct hold *hold = first; hold; hold = hold->next)
    if (hold->rescue.jobs.count > 0 || hold->refused.jobs.count > 0 || hold->state == HOLD_LOCKING)
      return true;
  return false;
}

/* Whether the job runs here under the lease of its row, or has ended and will be settled under it. */
static bool is_leased_here(const struct job *job) {
  for (const struct hold *hold = first; hold; hold = hold->next)
    for (int i = 0; i < hold->leased.count; i++)
      if (hold->leased.items[i].job.id == job->id && hold->leased.items[i].job.lease == job->lease &&
          !hold->leased.items[i].lost)
        return true;
  return false;
}

static void leave_alone(struct batch *batch, struct job *job, enum outcome outcome) {
  batch->open -= job->outcome == OUTCOME_NONE;
  job_free(job);
  job->outcome = outcome;
}

static int add_ids(const struct batch *batch, int64_t *ids) {
  for (int i = 0; i < batch->count; i++)
    ids[i] = batch->jobs[i].id;
  return batch->count;
}

void hold_add_unwritten(struct parameters *parameters) {
  int most = 0, count = 0;
  for (const struct hold *hold = first; hold; hold = hold->next)
    most += refused_count(&hold->refused) + hold->rescue.jobs.count + hold->settling.count;
  int64_t *ids = memory_new((size_t)most * sizeof *ids);
  for (const struct hold *hold = first; hold; hold = hold->next) {
    count += refused_ids(&hold->refused, ids + count);
    count += add_ids(&hold->rescue.jobs, ids + count);
    if (hold->state == HOLD_LOCKING || hold->rescuing)
      count += add_ids(&hold->settling, ids + count);
  }
  parameters_add_i64_array(parameters, ids, NULL, count);
  free(ids);
}

void hold_spare_jobs_in_hand(struct hold *hold) {
  bool unwritten = any_unwritten();
  for (int i = 0; i < hold->batch.count; i++) {
    struct job *job = &hold->batch.jobs[i];
    if (job->leased && is_leased_here(job)) {
      log_info("the lease of a job that runs in this worker had ended: extending it", LOG_T("queue", job->queue->name),
               LOG_I("job", job->id));
      leave_alone(&hold->batch, job, OUTCOME_EXTEND);
    } else if ((job->leased || unwritten) && is_unwritten(job->id)) {
      leave_alone(&hold->batch, job, OUTCOME_UNRUN);
      job->leased = false; /* its row keeps what it has */
    }
  }
}
