#include "batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duration.h"
#include "lease.h"
#include "memory.h"
#include "message.h"
#include "retry_waits.h"
#include "text.h"

static char *clean_copy(const char *text, size_t length) {
  size_t size = length < ERROR_TEXT_MOST ? length * 3 + 1 : ERROR_TEXT_MOST + 1;
  if (size > ERROR_TEXT_MOST + 1)
    size = ERROR_TEXT_MOST + 1;
  char *copy = memory_new(size);
  text_clean(copy, size, text, length);
  return copy;
}

/* What result_text_array() found among a job's retry waits. */
struct waits {
  int count;
  int64_t first_ms;
  char problem[256]; /* "" while all can be read */
};

static int take_wait(void *context, const char *text, size_t length) {
  struct waits *waits = context;
  const char *why = "is null";
  int64_t ms = 0;
  if (!text || duration_parse(text, length, &ms, &why) != 0) {
    snprintf(waits->problem, sizeof waits->problem,
             "retry_waits cannot be read: element %d, '%.*s', %s; write durations such as 10m0s", waits->count + 1,
             length < 60 ? (int)length : 60, text ? text : "", why);
    return 1;
  }
  if (waits->count++ == 0)
    waits->first_ms = ms;
  return 0;
}

static void read_waits(struct job *job, const PGresult *result, int row, struct waits *waits) {
  const char *bytes = PQgetvalue(result, row, CLAIM_RETRY_WAITS);
  if (PQgetisnull(result, row, CLAIM_RETRY_WAITS)) {
    *waits = (struct waits){.count = RETRY_WAITS_DEFAULT_COUNT, .first_ms = RETRY_WAITS_DEFAULT_FIRST_MS};
    job->retries_left = waits->count;
    job->next_wait_ms = waits->first_ms;
    return;
  }
  *waits = (struct waits){.first_ms = PARAMETER_NULL_I64};
  if (result_text_array(bytes, PQgetlength(result, row, CLAIM_RETRY_WAITS), take_wait, waits) < 0)
    snprintf(waits->problem, sizeof waits->problem, "retry_waits cannot be read: it is not a one-dimensional array");
  job->retries_left = waits->count;
  job->next_wait_ms = waits->first_ms;
}

void job_free(struct job *job) {
  free(job->error);
  free(job->traceback);
  job->error = job->traceback = NULL;
}

void job_fail(struct job *job, const char *error) {
  free(job->error);
  job->error = clean_copy(error, strlen(error));
  job->outcome = OUTCOME_FAIL;
}

static void end_retries(struct job *job) {
  job->next_wait_ms = PARAMETER_NULL_I64;
  job->retries_left = 0;
}

void job_fail_for_good(struct job *job, const char *error) {
  job_fail(job, error);
  end_retries(job);
}

void job_end(struct job *job, const struct job_outcome *outcome) {
  job->duration_us = outcome->duration_us;
  job->busy_us = outcome->busy_us;
  job->waited = outcome->waited;
  job->backoff = outcome->backoff;
  job->outcome = outcome->outcome;
  if (outcome->outcome == OUTCOME_SETTLED && !job->queue->transactional) /* its handler cannot have: that is for us */
    job->outcome = OUTCOME_COMPLETE;
  if (outcome->outcome == OUTCOME_FAIL)
    job->error = clean_copy(outcome->error, outcome->error_length);
  if (outcome->discard)
    end_retries(job);
  else if (outcome->outcome == OUTCOME_SNOOZE || (outcome->wait_ms >= 0 && job->next_wait_ms != PARAMETER_NULL_I64))
    job->next_wait_ms = outcome->wait_ms;
  if (outcome->traceback_length)
    job->traceback = clean_copy(outcome->traceback, outcome->traceback_length);
}

/* A job that no handler can be given: it ends here, for good, and says why. */
static void refuse(struct batch *batch, struct job *job, const char *reason) {
  job_fail_for_good(job, reason);
  batch->open--;
}

/* Its last holder vanished, and with him an attempt, which the lease has counted. */
static void charge_lost_lease(struct batch *batch, struct job *job) {
  job->attempt--;
  job_fail(job, "worker lost: lease ran out");
  batch->open--;
}

static void take_row(struct batch *batch, const PGresult *result, int row, struct queue *const *queues,
                     const uint32_t *indexes) {
  struct job *job = &batch->jobs[row];
  struct waits waits;
  uint32_t position = claim_position(result, row);
  int32_t attempt = PQgetisnull(result, row, CLAIM_ATTEMPT) ? 0 : result_i32(result, row, CLAIM_ATTEMPT);
  int created_at = PQgetisnull(result, row, CLAIM_CREATED_AT) ? CLAIM_RUN_AFTER : CLAIM_CREATED_AT;
  *job = (struct job){
      .id = result_i64(result, row, CLAIM_ID),
      .tid = result_tid(result, row, CLAIM_TID),
      .queue = queues[position],
      .queue_index = indexes[position],
      .attempt = attempt < INT32_MAX ? attempt + 1 : INT32_MAX,
      .lease = PQgetisnull(result, row, CLAIM_LEASE) ? 0 : result_i64(result, row, CLAIM_LEASE),
      .suspect = !PQgetisnull(result, row, CLAIM_SUSPECT),
      .created_at_us = result_i64(result, row, created_at),
      .run_after_us = result_i64(result, row, CLAIM_RUN_AFTER),
      .data_length = PQgetisnull(result, row, CLAIM_DATA_LENGTH) ? 0 : result_i32(result, row, CLAIM_DATA_LENGTH),
  };
  read_waits(job, result, row, &waits);
  if (*waits.problem)
    refuse(batch, job, waits.problem);
  else if (job->data_length > JOB_DATA_MOST)
    refuse(batch, job, "data is larger than 256 MiB, which no handler is given");
  else if (job->lease)
    charge_lost_lease(batch, job);
}

/*
 * Jobs of transactional queues are leased, and so is all that stands beside them. They go back when there are others,
 * to be claimed by themselves. Returns whether there are such jobs to run.
 */
static bool part_transactional(struct batch *batch) {
  int count[2] = {0, 0};
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].outcome == OUTCOME_NONE)
      count[batch->jobs[i].queue->transactional]++;
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (job->outcome != OUTCOME_NONE || !job->queue->transactional || count[false] == 0)
      continue;
    job->outcome = OUTCOME_UNRUN;
    batch->open--;
  }
  return count[true] > 0 && count[false] == 0;
}

/*
 * When a suspect is first, so many of those that came with it run, and nothing else; what is left goes back. Suspects
 * further behind go back until they are first.
 */
static void isolate_suspects(struct batch *batch, int suspect_group_size) {
  batch->is_suspect_group = batch->count > 0 && batch->jobs[0].suspect && batch->jobs[0].outcome == OUTCOME_NONE;
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (job->outcome != OUTCOME_NONE || (batch->is_suspect_group && job->suspect && suspect_group_size-- > 0) ||
        (!batch->is_suspect_group && !job->suspect))
      continue;
    job->outcome = OUTCOME_UNRUN;
    batch->open--;
  }
}

void batch_take(struct batch *batch, const PGresult *result, struct queue *const *queues, const uint32_t *indexes,
                int suspect_group_size) {
  batch->count = batch->open = PQntuples(result);
  batch->jobs = memory_new((size_t)batch->count * sizeof *batch->jobs);
  batch->number += HOLDS_PER_EXECUTOR;
  batch->sent = 0;
  batch->token = 0;
  for (int row = 0; row < batch->count; row++)
    take_row(batch, result, row, queues, indexes);
  if (part_transactional(batch))
    batch->token = lease_token(batch->count);
  isolate_suspects(batch, suspect_group_size);
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
                           .lease = job->queue->transactional ? batch->token + index : 0,
                           .data = data,
                           .data_length = length,
                       });
}

void batch_send(struct batch *batch, const PGresult *result, struct buffer *out) {
  uint32_t count = 0;
  for (int i = 0; i < batch->count; i++)
    count += batch->jobs[i].outcome == OUTCOME_NONE && !PQgetisnull(result, i, CLAIM_DATA);
  if (count == 0)
    return;
  size_t mark = begin_jobs(batch, count, out);
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].outcome == OUTCOME_NONE && !PQgetisnull(result, i, CLAIM_DATA))
      put_job(batch, i, PQgetvalue(result, i, CLAIM_DATA), (size_t)PQgetlength(result, i, CLAIM_DATA), out);
  frame_finish(out, mark);
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

void batch_fail_job(struct batch *batch, const struct child_death *death) {
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (job->id != death->culprit || job->outcome != OUTCOME_NONE)
      continue;
    job->duration_us = (uint64_t)death->ran_us;
    job_fail(job, death->cause);
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
  from->count = 0; /* the texts have moved */
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

void batch_child_died(struct batch *batch, uint32_t begun, const struct child_death *death) {
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (job->outcome != OUTCOME_NONE || job->position == 0 || job->position > begun)
      continue;
    if (job->suspect && death->alone)
      job_fail(job, death->cause);
    else
      job->outcome = OUTCOME_SUSPECT;
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

void batch_make_ascii(struct batch *batch) {
  for (int i = 0; i < batch->count; i++) {
    char *to = batch->jobs[i].error;
    for (const char *from = to; from && *from; from++)
      if ((*from & 0xc0) != 0x80) /* one mark for each character, however many bytes it has */
        *to++ = (*from & 0x80) ? '?' : *from;
    if (to)
      *to = '\0';
  }
}

void batch_sweep_next(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].outcome == OUTCOME_UNRUN || batch->jobs[i].outcome == OUTCOME_SUSPECT)
      batch->jobs[i].queue->sweep_next = true;
}

void job_learn(const struct job *job) {
  queue_saw(job->queue, (int64_t)job->busy_us);
  queue_saw_run(job->queue, job->waited, (int64_t)job->duration_us);
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
        batch->jobs[i].outcome != OUTCOME_LEASE) /* that goes on, and is learned of when it ends */
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
