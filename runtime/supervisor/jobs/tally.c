#include "tally.h"

#include "batch.h"
#include "database_clock.h"

int tally_bucket(int64_t us) {
  uint64_t ms = us > 0 ? (uint64_t)us / 1000 : 0;
  int bucket = ms == 0 ? 0 : 64 - __builtin_clzll(ms);
  return bucket < TALLY_BUCKETS ? bucket : TALLY_BUCKETS - 1;
}

/* Where a job of that outcome is counted; NULL: it has not ended. */
static int64_t *counter_of(struct tally *tally, const struct job *job) {
  switch (job->outcome) {
  case OUTCOME_COMPLETE:
  case OUTCOME_SETTLED:
    return &tally->completed;
  case OUTCOME_FAIL:
    return job->next_wait_ms == NO_NEXT_WAIT ? &tally->failed : &tally->retried;
  case OUTCOME_SNOOZE:
    return &tally->snoozed;
  case OUTCOME_CANCELLED: /* or its lease was lost for another reason: then the history has no row of it */
    return job->written ? &tally->cancelled : NULL;
  default:
    return NULL;
  }
}

/* Returns whether the job has ended. */
static bool count(struct tally *tally, const struct job *job) {
  int64_t *counter = counter_of(tally, job);
  if (!counter)
    return false;
  ++*counter;
  if (job->began_us == 0 || job->outcome == OUTCOME_CANCELLED) /* its handler did not run here, or not to its end */
    return true;
  int64_t began_us = database_clock_at(job->began_us), wait_us = 0;
  if (job->run_after_us < began_us && __builtin_sub_overflow(began_us, job->run_after_us, &wait_us))
    wait_us = 0; /* due since -infinity */
  tally->wait_us = wait_us < INT64_MAX - tally->wait_us ? tally->wait_us + wait_us : INT64_MAX;
  tally->run_us += (int64_t)job->duration_us;
  tally->waits[tally_bucket(wait_us)]++;
  tally->runs[tally_bucket((int64_t)job->duration_us)]++;
  return true;
}

int tally_batch(const struct batch *batch) {
  int ended = 0;
  for (int i = 0; i < batch->count; i++)
    ended += count(&batch->jobs[i].queue->tally, &batch->jobs[i]);
  return ended;
}

bool tally_is_empty(const struct tally *tally) {
  return tally->completed == 0 && tally->retried == 0 && tally->failed == 0 && tally->snoozed == 0 &&
         tally->cancelled == 0;
}

/* Times are added up to the greatest number. */
static int64_t sum_of(int64_t a, int64_t b) {
  int64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

void tally_add(struct tally *tally, const struct tally *other) {
  tally->completed += other->completed;
  tally->retried += other->retried;
  tally->failed += other->failed;
  tally->snoozed += other->snoozed;
  tally->cancelled += other->cancelled;
  tally->wait_us = sum_of(tally->wait_us, other->wait_us);
  tally->run_us = sum_of(tally->run_us, other->run_us);
  for (int i = 0; i < TALLY_BUCKETS; i++) {
    tally->waits[i] += other->waits[i];
    tally->runs[i] += other->runs[i];
  }
}

void tally_subtract(struct tally *tally, const struct tally *written) {
  tally->completed -= written->completed;
  tally->retried -= written->retried;
  tally->failed -= written->failed;
  tally->snoozed -= written->snoozed;
  tally->cancelled -= written->cancelled;
  tally->wait_us -= written->wait_us;
  tally->run_us -= written->run_us;
  for (int i = 0; i < TALLY_BUCKETS; i++) {
    tally->waits[i] -= written->waits[i];
    tally->runs[i] -= written->runs[i];
  }
}
