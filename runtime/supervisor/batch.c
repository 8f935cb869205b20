#include "batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duration.h"
#include "frame.h"
#include "log.h"
#include "memory.h"
#include "text.h"

static char *clean_copy(const char *text, size_t length) {
  size_t size = length < ERROR_TEXT_MOST ? length * 3 + 1 : ERROR_TEXT_MOST + 1;
  if (size > ERROR_TEXT_MOST + 1)
    size = ERROR_TEXT_MOST + 1;
  char *copy = memory_new(size);
  text_clean(copy, size, text, length);
  return copy;
}

static void end(struct batch *batch, struct job *job, enum outcome outcome) {
  if (job->outcome == OUTCOME_NONE)
    batch->open--;
  job->outcome = outcome;
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
  *waits = (struct waits){.first_ms = PARAMETER_NULL_I64};
  if (result_text_array(bytes, PQgetlength(result, row, CLAIM_RETRY_WAITS), take_wait, waits) < 0)
    snprintf(waits->problem, sizeof waits->problem, "retry_waits cannot be read: it is not a one-dimensional array");
  job->retries_left = waits->count;
  job->next_wait_ms = waits->first_ms;
}

/* A job that no handler can be given: it ends here, for good, and says why. */
static void refuse(struct batch *batch, struct job *job, const char *reason) {
  job->error = clean_copy(reason, strlen(reason));
  job->next_wait_ms = PARAMETER_NULL_I64;
  job->retries_left = 0;
  end(batch, job, OUTCOME_FAIL);
}

static void take_row(struct batch *batch, const PGresult *result, int row, struct queue *const *queues,
                     const uint32_t *indexes) {
  struct job *job = &batch->jobs[row];
  struct waits waits;
  int64_t position = result_i64(result, row, CLAIM_QUEUE) - 1;
  *job = (struct job){
      .id = result_i64(result, row, CLAIM_ID),
      .queue = queues[position],
      .queue_index = indexes[position],
      .attempt = result_i32(result, row, CLAIM_ATTEMPT) + 1,
      .created_at = result_time(result, row, CLAIM_CREATED_AT),
      .run_after = result_time(result, row, CLAIM_RUN_AFTER),
      .data_length = result_i32(result, row, CLAIM_DATA_LENGTH),
  };
  read_waits(job, result, row, &waits);
  if (*waits.problem)
    refuse(batch, job, waits.problem);
  else if (job->data_length > JOB_DATA_MOST)
    refuse(batch, job, "data is larger than 256 MiB, which no handler is given");
}

void batch_take(struct batch *batch, const PGresult *result, struct queue *const *queues, const uint32_t *indexes) {
  batch->count = batch->open = PQntuples(result);
  batch->jobs = memory_new((size_t)batch->count * sizeof *batch->jobs);
  batch->number++;
  for (int row = 0; row < batch->count; row++)
    take_row(batch, result, row, queues, indexes);
}

static size_t begin_jobs(const struct batch *batch, uint32_t count, struct buffer *out) {
  size_t mark = frame_begin(out, FRAME_JOBS);
  put_u32(out, batch->number);
  put_u32(out, count);
  return mark;
}

static void put_job(const struct batch *batch, int index, const char *data, size_t length, struct buffer *out) {
  struct job *job = &batch->jobs[index];
  job->sent = true;
  put_u32(out, (uint32_t)index);
  put_u32(out, job->queue_index);
  put_i64(out, job->id);
  put_u32(out, (uint32_t)job->attempt);
  put_u32(out, (uint32_t)job->retries_left);
  put_f64(out, job->created_at);
  put_f64(out, job->run_after);
  put_bytes(out, data, length);
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
    if (batch->jobs[i].outcome == OUTCOME_NONE && !batch->jobs[i].sent)
      return i;
  return -1;
}

void batch_send_large(struct batch *batch, int index, const char *data, size_t length, struct buffer *out) {
  size_t mark = begin_jobs(batch, 1, out);
  put_job(batch, index, data, length, out);
  frame_finish(out, mark);
}

bool batch_end_job(struct batch *batch, uint32_t index, const struct child_outcome *outcome) {
  if (index >= (uint32_t)batch->count || batch->jobs[index].outcome != OUTCOME_NONE || !batch->jobs[index].sent)
    return false;
  struct job *job = &batch->jobs[index];
  job->duration_us = outcome->duration_us;
  job->backoff = outcome->backoff;
  if (outcome->outcome == OUTCOME_FAIL)
    job->error = clean_copy(outcome->error, outcome->error_length);
  if (outcome->traceback_length)
    job->traceback = clean_copy(outcome->traceback, outcome->traceback_length);
  end(batch, job, outcome->outcome);
  return true;
}

void batch_fail_job(struct batch *batch, int64_t id, const char *error) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].id == id && batch->jobs[i].outcome == OUTCOME_NONE) {
      batch->jobs[i].error = clean_copy(error, strlen(error));
      end(batch, &batch->jobs[i], OUTCOME_FAIL);
    }
}

void batch_release(struct batch *batch, const struct queue *queue, bool only_unsent) {
  for (int i = 0; i < batch->count; i++) {
    struct job *job = &batch->jobs[i];
    if (job->outcome == OUTCOME_NONE && (!queue || job->queue == queue) && !(only_unsent && job->sent))
      end(batch, job, OUTCOME_UNRUN);
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

void batch_learn(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].sent && batch->jobs[i].outcome != OUTCOME_UNRUN)
      queue_saw(batch->jobs[i].queue, (int64_t)batch->jobs[i].duration_us);
  for (int i = 0; i < batch->count; i++)
    queue_learn(batch->jobs[i].queue);
}

static bool is_retried(const struct job *job) {
  return job->outcome == OUTCOME_FAIL && job->next_wait_ms != PARAMETER_NULL_I64;
}

/* Which statement writes a job's outcome; STATEMENT_COUNT: none does. */
static enum statement statement_of(const struct job *job) {
  switch (job->outcome) {
  case OUTCOME_COMPLETE:
    return job->queue->preserve_completed ? STATEMENT_PRESERVE : STATEMENT_COMPLETE;
  case OUTCOME_FAIL:
    return !is_retried(job) && job->queue->discard_failed ? STATEMENT_COMPLETE : STATEMENT_FAIL;
  default:
    return STATEMENT_COUNT;
  }
}

void batch_settle(const struct batch *batch,
                  void (*send)(void *context, enum statement statement, const struct parameters *parameters),
                  void *context) {
  static const enum statement statements[] = {STATEMENT_COMPLETE, STATEMENT_PRESERVE, STATEMENT_FAIL};
  int64_t *ids = memory_new((size_t)batch->count * sizeof *ids);
  int64_t *waits = memory_new((size_t)batch->count * sizeof *waits);
  const char **errors = memory_new((size_t)batch->count * sizeof *errors);
  for (size_t s = 0; s < sizeof statements / sizeof statements[0]; s++) {
    struct parameters parameters = {0};
    int count = 0;
    for (int i = 0; i < batch->count; i++) {
      const struct job *job = &batch->jobs[i];
      if (statement_of(job) != statements[s])
        continue;
      ids[count] = job->id;
      waits[count] = job->next_wait_ms;
      errors[count++] = job->error ? job->error : "";
    }
    if (count == 0)
      continue;
    parameters_add_i64_array(&parameters, ids, count);
    if (statements[s] == STATEMENT_FAIL) {
      parameters_add_i64_array(&parameters, waits, count);
      parameters_add_text_array(&parameters, errors, count);
    }
    send(context, statements[s], &parameters);
    parameters_free(&parameters);
  }
  free(errors);
  free(waits);
  free(ids);
}

static void log_job(const struct job *job) {
  bool retried = is_retried(job);
  if (job->outcome == OUTCOME_COMPLETE)
    log_debug("job completed", LOG_T("queue", job->queue->name), LOG_I("job", job->id), LOG_I("attempt", job->attempt),
              LOG_US("duration", (int64_t)job->duration_us));
  else if (job->outcome == OUTCOME_FAIL)
    log_line(retried ? LOG_WARN : LOG_ERROR,
             retried                      ? "job failed and will be retried"
             : job->queue->discard_failed ? "job failed and is discarded"
                                          : "job failed for good",
             LOG_T("queue", job->queue->name), LOG_I("job", job->id), LOG_I("attempt", job->attempt),
             LOG_US("duration", (int64_t)job->duration_us), LOG_T("error", job->error),
             retried ? LOG_US("retry_in", job->next_wait_ms * 1000) : (struct log_field){0},
             LOG_T("traceback", job->traceback));
}

void batch_log(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].outcome == OUTCOME_FAIL || log_wants(LOG_DEBUG))
      log_job(&batch->jobs[i]);
}

void batch_clear(struct batch *batch) {
  for (int i = 0; i < batch->count; i++) {
    free(batch->jobs[i].error);
    free(batch->jobs[i].traceback);
  }
  free(batch->jobs);
  batch->jobs = NULL;
  batch->count = batch->open = 0;
}
