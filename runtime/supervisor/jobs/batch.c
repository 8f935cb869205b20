#include "batch.h"

#include <stdlib.h>

#include "clock.h"
#include "deaths.h"
#include "frame.h"
#include "memory.h"
#include "message.h"
#include "token.h"

/* A frame of several jobs has at most this much data: the executor refuses one that does not fit into its memory. */
enum { FRAME_BYTES = 512 * 1024 };

/*
 * Jobs of transactional queues are leased, and so are all other jobs of their batch. If the batch has other jobs, the
 * transactional ones go back and are claimed separately. Returns whether the batch has transactional jobs to run.
 */
static bool separate_transactional(struct batch *batch) {
  int count[2] = {0, 0};
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].outcome == OUTCOME_NONE)
      count[batch->jobs[i].transactional]++;
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (job->outcome != OUTCOME_NONE || !job->transactional || count[false] == 0)
      continue;
    job->outcome = OUTCOME_UNRUN;
    batch->open--;
  }
  return count[true] > 0 && count[false] == 0;
}

static const struct job *first_open(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].outcome == OUTCOME_NONE)
      return &batch->jobs[i];
  return NULL;
}

/*
 * Jobs that may not run beside other jobs are separated from them. If the first open job is one, a group of its kind
 * runs, and all other jobs go back. Otherwise the jobs of that kind go back.
 */
static void separate_groups(struct batch *batch) {
  const struct job *first = first_open(batch);
  int left = first ? deaths_group_size(first->deaths) : 0;
  batch->runs_alone = left > 0;
  batch->has_more_to_run_alone = false;
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    bool grouped = deaths_group_size(job->deaths) > 0;
    if (job->outcome != OUTCOME_NONE || (!batch->runs_alone && !grouped))
      continue;
    if (batch->runs_alone && deaths_share_group(job->deaths, first->deaths) && left-- > 0)
      continue;
    batch->has_more_to_run_alone = batch->has_more_to_run_alone || grouped;
    job->outcome = OUTCOME_UNRUN;
    batch->open--;
  }
}

/* Whether a process may have died while it had one of the jobs: they are leased before they run, because another death
 * must leave evidence. */
static bool has_seen_death(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].outcome == OUTCOME_NONE && (batch->jobs[i].interrupted || batch->jobs[i].deaths > 0))
      return true;
  return false;
}

void batch_take(struct batch *batch, const PGresult *result, struct queue *const *queues, const uint32_t *indexes,
                const bool *transactional) {
  batch->count = batch->open = PQntuples(result);
  batch->jobs = memory_new((size_t)batch->count * sizeof *batch->jobs);
  batch->number += HOLDS_PER_EXECUTOR;
  batch->sent = 0;
  batch->token = 0;
  for (int row = 0; row < batch->count; row++) {
    struct job *job = &batch->jobs[row];
    uint32_t position = claim_position(result, row);
    job_take(job, result, row);
    job->queue = queues[position];
    job->queue_index = indexes[position];
    job->transactional = transactional[job->queue_index];
    batch->open -= job->outcome != OUTCOME_NONE;
  }
  bool settles = separate_transactional(batch);
  separate_groups(batch);
  if (settles || has_seen_death(batch))
    batch->token = token_next(batch->count);
}

static size_t begin_jobs(const struct batch *batch, uint32_t count, struct buffer *out) {
  size_t mark = frame_begin(out, FRAME_JOBS);
  message_put_jobs(out, &(struct message_jobs){.batch = batch->number, .count = count});
  return mark;
}

static void put_job(struct batch *batch, int index, const char *data, size_t length, struct buffer *out) {
  struct job *job = &batch->jobs[index];
  job->position = ++batch->sent;
  message_put_job(out, &(struct message_job){
                           .index = (uint32_t)index,
                           .position = job->position,
                           .queue = job->queue_index,
                           .id = job->id,
                           .attempt = (uint32_t)job->attempt,
                           .retries_left = (uint32_t)job->retries_left,
                           .created_at = time_as_seconds(job->created_at_us),
                           .run_after = time_as_seconds(job->run_after_us),
                           .settles = job->transactional,
                           .lease = batch->token + index,
                           .data = data,
                           .data_length = length,
                       });
}

static bool has_data(const struct batch *batch, const PGresult *result, int index) {
  return batch->jobs[index].outcome == OUTCOME_NONE && !PQgetisnull(result, index, CLAIM_DATA);
}

/* Counts the jobs of the frame that begins at `first`. *end: the index behind its last job. */
static uint32_t count_frame(const struct batch *batch, const PGresult *result, int first, int *end) {
  uint32_t count = 0;
  size_t bytes = 0;
  for (*end = first; *end < batch->count; ++*end) {
    if (!has_data(batch, result, *end))
      continue;
    bytes += (size_t)PQgetlength(result, *end, CLAIM_DATA);
    if (count > 0 && bytes > FRAME_BYTES)
      break;
    count++;
  }
  return count;
}

void batch_send(struct batch *batch, const PGresult *result, struct buffer *out) {
  for (int i = 0, end; i < batch->count; i = end) {
    uint32_t count = count_frame(batch, result, i, &end);
    if (count == 0)
      return;
    size_t mark = begin_jobs(batch, count, out);
    for (; i < end; i++)
      if (has_data(batch, result, i))
        put_job(batch, i, PQgetvalue(result, i, CLAIM_DATA), (size_t)PQgetlength(result, i, CLAIM_DATA), out);
    frame_finish(out, mark);
  }
}

int batch_next_large(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].outcome == OUTCOME_NONE && batch->jobs[i].position == 0)
      return i;
  return -1;
}

void batch_send_large(struct batch *batch, int index, const char *data, size_t length, struct buffer *out) {
  size_t mark = begin_jobs(batch, 1, out);
  put_job(batch, index, data, length, out);
  frame_finish(out, mark);
}

bool batch_end_job(struct batch *batch, uint32_t index, const struct job_outcome *outcome) {
  if (index >= (uint32_t)batch->count)
    return false;
  struct job *job = &batch->jobs[index];
  if (job->outcome != OUTCOME_NONE || job->position == 0)
    return false;
  job_end(job, outcome);
  batch->open--;
  return true;
}

void batch_fail_culprit(struct batch *batch, const struct child_death *death) {
  for (int i = 0; i < batch->count && death->has_culprit; i++) {
    struct job *job = &batch->jobs[i];
    if (job->id != death->culprit || job->outcome != OUTCOME_NONE)
      continue;
    job->duration_us = (uint64_t)death->ran_us;
    job->began_us = clock_us() - death->ran_us;
    job_died(job, true, death->cause);
    batch->open--;
  }
}

void batch_move(struct batch *to, struct batch *from) {
  if (to->count == 0) {
    free(to->jobs);
    to->jobs = from->jobs;
    to->count = from->count;
    from->jobs = NULL;
  }
  for (int i = 0; from->jobs && i < from->count; i++)
    batch_add(to, &from->jobs[i]);
  from->count = 0; /* the jobs' texts have moved */
  batch_clear(from);
}

const struct job *batch_find(const struct batch *batch, int64_t id) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].id == id && batch->jobs[i].outcome == OUTCOME_NONE)
      return &batch->jobs[i];
  return NULL;
}

bool batch_has_unwritten_lease(const struct batch *batch, int64_t id) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].id == id && batch->jobs[i].outcome == OUTCOME_LEASE)
      return true;
  return false;
}

int batch_count_unbegun(const struct batch *batch, uint32_t begun) {
  int count = 0;
  for (int i = 0; i < batch->count; i++)
    count += batch->jobs[i].outcome == OUTCOME_NONE && batch->jobs[i].position > begun;
  return count;
}

int batch_split(struct batch *batch, uint32_t begun, int64_t token) {
  int leases = 0;
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (job->outcome != OUTCOME_NONE)
      continue;
    bool runs = job->position > 0 && job->position <= begun;
    job->outcome = runs ? OUTCOME_LEASE : OUTCOME_UNRUN;
    job->leased = runs;
    job->lease = runs ? token + i : 0;
    leases += runs;
    batch->open--;
  }
  return leases;
}

void batch_add(struct batch *batch, const struct job *job) {
  batch->jobs = memory_resize(batch->jobs, (size_t)(batch->count + 1) * sizeof *batch->jobs);
  batch->jobs[batch->count++] = *job;
}

void batch_count_death(struct batch *batch, uint32_t begun, const struct child_death *death) {
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (job->outcome != OUTCOME_NONE || job->position == 0 || job->position > begun)
      continue;
    job_died(job, death->alone && job->deaths > 0, death->cause);
    batch->open--;
  }
  batch_release(batch, NULL, false);
}

void batch_release(struct batch *batch, const struct queue *queue, bool only_unsent) {
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (job->outcome == OUTCOME_NONE && (!queue || job->queue == queue) && !(only_unsent && job->position > 0)) {
      job->outcome = OUTCOME_UNRUN;
      batch->open--;
    }
  }
}

bool batch_has_open(const struct batch *batch, const struct queue *queue, uint32_t *index) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].queue == queue && batch->jobs[i].outcome == OUTCOME_NONE) {
      *index = batch->jobs[i].queue_index;
      return true;
    }
  return false;
}

void batch_sweep_next(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].outcome == OUTCOME_UNRUN || batch->jobs[i].outcome == OUTCOME_DEATH)
      batch->jobs[i].queue->sweep_next = true;
}

void batch_learn_waiting(const struct batch *batch, int64_t busy_us) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].outcome == OUTCOME_LEASE) {
      queue_saw(batch->jobs[i].queue, busy_us);
      queue_saw_waiting(batch->jobs[i].queue);
    }
}

void batch_learn(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].position > 0 && batch->jobs[i].outcome != OUTCOME_UNRUN &&
        batch->jobs[i].outcome != OUTCOME_LEASE) /* the job's time is counted when it ends */
      job_learn(&batch->jobs[i]);
  for (int i = 0; i < batch->count; i++)
    queue_learn(batch->jobs[i].queue);
}

void batch_clear(struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    job_free(&batch->jobs[i]);
  free(batch->jobs);
  batch->jobs = NULL;
  batch->count = batch->open = 0;
}
