#include "job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deaths.h"
#include "duration.h"
#include "memory.h"
#include "retry_waits.h"
#include "statements.h"
#include "text.h"

static char *clean_copy(const char *text, size_t length) {
  size_t size = length < ERROR_TEXT_MOST ? length * 3 + 1 : ERROR_TEXT_MOST + 1;
  if (size > ERROR_TEXT_MOST + 1)
    size = ERROR_TEXT_MOST + 1;
  char *copy = memory_new(size);
  text_clean(copy, size, text, length);
  return copy;
}

/* The content of a job's array of retry waits. */
struct waits {
  int count;
  int64_t first_ms;
  char problem[256]; /* "": all waits can be read */
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
  } else {
    *waits = (struct waits){.first_ms = NO_NEXT_WAIT};
    if (result_text_array(bytes, PQgetlength(result, row, CLAIM_RETRY_WAITS), take_wait, waits) < 0)
      snprintf(waits->problem, sizeof waits->problem, "retry_waits cannot be read: it is not a one-dimensional array");
  }
  job->retries_left = waits->count;
  job->next_wait_ms = waits->first_ms;
}

void job_free(struct job *job) {
  free(job->error);
  free(job->traceback);
  job->error = job->traceback = NULL;
  if (job->counted)
    job->queue->ignored--;
  job->counted = job->refused = false;
  job->ignored = 0;
}

static void count(struct job *job) {
  if (!job->counted)
    job->queue->ignored++;
  job->counted = true;
}

void job_ignore(struct job *job) {
  job->ignored++;
  count(job);
}

void job_refuse(struct job *job) {
  job->refused = true;
  count(job);
}

void job_fail(struct job *job, const char *error) {
  free(job->error);
  job->error = clean_copy(error, strlen(error));
  job->outcome = OUTCOME_FAIL;
}

void job_died(struct job *job, bool culprit, const char *error) {
  if (culprit)
    job_fail(job, error);
  else
    job->outcome = OUTCOME_DEATH;
  job->died = true;
}

static void end_retries(struct job *job) {
  job->next_wait_ms = NO_NEXT_WAIT;
  job->retries_left = 0;
}

void job_fail_for_good(struct job *job, const char *error) {
  job_fail(job, error);
  end_retries(job);
}

void job_end(struct job *job, const struct job_outcome *outcome) {
  job->duration_us = outcome->duration_us;
  job->began_us = outcome->came_us - (int64_t)outcome->duration_us;
  job->busy_us = outcome->busy_us;
  job->waited = outcome->waited;
  job->backoff = outcome->backoff;
  job->outcome = outcome->outcome;
  if (outcome->outcome == OUTCOME_SETTLED &&
      !job->transactional) /* only a transactional handler can complete its job itself */
    job->outcome = OUTCOME_COMPLETE;
  if (outcome->outcome == OUTCOME_FAIL || (outcome->backoff && outcome->error_length > 0))
    job->error = clean_copy(outcome->error, outcome->error_length);
  if (outcome->discard)
    end_retries(job);
  else if (outcome->outcome == OUTCOME_SNOOZE || (outcome->wait_ms >= 0 && job->next_wait_ms != NO_NEXT_WAIT))
    job->next_wait_ms = outcome->wait_ms;
  if (outcome->traceback_length)
    job->traceback = clean_copy(outcome->traceback, outcome->traceback_length);
}

void job_take(struct job *job, const PGresult *result, int row) {
  struct waits waits;
  int32_t attempt = PQgetisnull(result, row, CLAIM_ATTEMPT) ? 0 : result_i32(result, row, CLAIM_ATTEMPT);
  int created_at = PQgetisnull(result, row, CLAIM_CREATED_AT) ? CLAIM_RUN_AFTER : CLAIM_CREATED_AT;
  *job = (struct job){
      .id = result_i64(result, row, CLAIM_ID),
      .tid = result_tid(result, row, CLAIM_TID),
      .attempt = attempt < INT32_MAX ? attempt + 1 : INT32_MAX,
      .leased = !PQgetisnull(result, row, CLAIM_LEASE),
      .lease = PQgetisnull(result, row, CLAIM_LEASE) ? 0 : result_i64(result, row, CLAIM_LEASE),
      .deaths = PQgetisnull(result, row, CLAIM_DEATHS) ? 0 : result_i32(result, row, CLAIM_DEATHS),
      .interrupted = !PQgetisnull(result, row, CLAIM_INTERRUPTED),
      .created_at_us = result_i64(result, row, created_at),
      .run_after_us = result_i64(result, row, CLAIM_RUN_AFTER),
      .data_length = PQgetisnull(result, row, CLAIM_DATA_LENGTH) ? 0 : result_i32(result, row, CLAIM_DATA_LENGTH),
  };
  read_waits(job, result, row, &waits);
  if (*waits.problem) {
    job_fail_for_good(job, waits.problem);
  } else if (job->data_length > JOB_DATA_MOST) {
    job_fail_for_good(job, "data is larger than 256 MiB, the limit of a job's data");
  } else if (attempt < 0) {
    job_fail_for_good(job, "attempt is negative: the row was not written by a worker");
  } else if (job->leased) { /* its worker is lost; the attempt was counted when the job was leased */
    job->attempt--;
    job_died(job, job->deaths >= DEATHS_ALONE, "worker lost: the lease ran out while only this job ran");
  }
}

void job_learn(const struct job *job) {
  queue_saw(job->queue, (int64_t)job->busy_us);
  queue_saw_run(job->queue, job->waited, (int64_t)job->duration_us);
}
