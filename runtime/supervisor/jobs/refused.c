#include "refused.h"

#include <string.h>

#include "clock.h"
#include "growing_wait.h"
#include "settle.h"

enum { AGAIN_LEAST_MS = 1000, AGAIN_MOST_MS = 60000, FORGET_MS = 120000 };

void refused_free(struct refused *refused) {
  batch_clear(&refused->jobs);
  batch_clear(&refused->unrun);
}

static void wait_longer(struct job *job, int64_t now_ms) {
  job->again_wait_ms = growing_wait_after(job->again_wait_ms, AGAIN_LEAST_MS, AGAIN_MOST_MS);
  job->again_ms = now_ms + job->again_wait_ms;
}

void refused_keep(struct refused *refused, struct job *job) {
  int64_t now_ms = clock_ms();
  job_refuse(job);
  job->written = job->locked_elsewhere = false;
  job->tid = 0;
  wait_longer(job, now_ms);
  queue_refuse(job->queue, now_ms);
  batch_add(&refused->jobs, job);
}

static void forget_old(struct batch *unrun, int64_t now_ms) {
  int kept = 0;
  for (int i = 0; i < unrun->count; i++)
    if (now_ms - unrun->jobs[i].again_ms < FORGET_MS)
      unrun->jobs[kept++] = unrun->jobs[i];
  unrun->count = kept;
}

bool refused_keep_unrun(struct refused *refused, const struct job *job) {
  int64_t now_ms = clock_ms();
  queue_refuse(job->queue, now_ms);
  forget_old(&refused->unrun, now_ms);
  for (int i = 0; i < refused->unrun.count; i++)
    if (refused->unrun.jobs[i].id == job->id) {
      wait_longer(&refused->unrun.jobs[i], now_ms);
      return false;
    }
  struct job copy = {.id = job->id, .queue = job->queue, .ignored = job->ignored, .outcome = OUTCOME_UNRUN};
  wait_longer(&copy, now_ms);
  batch_add(&refused->unrun, &copy);
  return true;
}

const struct job *refused_find_ignored(const struct refused *refused) {
  for (int i = 0; i < refused->jobs.count; i++)
    if (refused->jobs.jobs[i].ignored > 0)
      return &refused->jobs.jobs[i];
  for (int i = 0; i < refused->unrun.count; i++)
    if (refused->unrun.jobs[i].ignored > 0)
      return &refused->unrun.jobs[i];
  return NULL;
}

int refused_count(const struct refused *refused) {
  return refused->jobs.count + refused->unrun.count;
}

int refused_ids(const struct refused *refused, int64_t *ids) {
  int count = 0;
  for (int i = 0; i < refused->jobs.count; i++)
    ids[count++] = refused->jobs.jobs[i].id;
  int64_t now_ms = refused->unrun.count > 0 ? clock_ms() : 0;
  for (int i = 0; i < refused->unrun.count; i++)
    if (refused->unrun.jobs[i].again_ms > now_ms)
      ids[count++] = refused->unrun.jobs[i].id;
  return count;
}

static int find_due(const struct refused *refused) {
  int64_t now_ms = refused->jobs.count > 0 ? clock_ms() : 0;
  for (int i = 0; i < refused->jobs.count; i++)
    if (refused->jobs.jobs[i].again_ms <= now_ms)
      return i;
  return -1;
}

bool refused_is_due(const struct refused *refused) {
  return find_due(refused) >= 0;
}

static void remove_job(struct refused *refused, int index) {
  struct batch *jobs = &refused->jobs;
  memmove(jobs->jobs + index, jobs->jobs + index + 1, (size_t)(--jobs->count - index) * sizeof *jobs->jobs);
}

enum statement refused_next(struct refused *refused, struct batch *batch, struct parameters *parameters) {
  int due = find_due(refused);
  batch_add(batch, &refused->jobs.jobs[due]);
  remove_job(refused, due);
  settle_lock_parameters(batch, parameters);
  return STATEMENT_LOCK_FOR_RESCUE;
}

void refused_put_back(struct refused *refused, struct batch *batch) {
  for (int i = 0; i < batch->count; i++) {
    batch->jobs[i].again_ms = clock_ms() + AGAIN_LEAST_MS;
    batch_add(&refused->jobs, &batch->jobs[i]);
  }
  batch->count = 0;
}

void refused_retry(struct refused *refused) {
  for (int i = 0; i < refused->jobs.count; i++)
    refused->jobs.jobs[i].again_ms = refused->jobs.jobs[i].again_wait_ms = 0;
}

bool refused_take_lease(struct refused *refused, int64_t id) {
  for (int i = 0; i < refused->jobs.count; i++) {
    struct job *job = &refused->jobs.jobs[i];
    if (job->id != id || job->outcome != OUTCOME_LEASE)
      continue;
    job_free(job);
    remove_job(refused, i);
    return true;
  }
  return false;
}
