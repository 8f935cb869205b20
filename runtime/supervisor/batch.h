#ifndef PGQ_BATCH_H
#define PGQ_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "child.h"
#include "protocol.h"
#include "queue.h"
#include "statements.h"

/* The jobs of one claim, and what became of them. */

struct job {
  int64_t id;
  struct queue *queue;
  uint32_t queue_index; /* of the queue in the executor's own list */
  int32_t attempt;      /* this one, from 1 */
  int32_t retries_left; /* after this attempt */
  int64_t next_wait_ms; /* PARAMETER_NULL_I64: no retry */
  double created_at, run_after;
  int32_t data_length;
  bool sent; /* to the executor; a job with much data is sent alone, when its turn comes */
  enum outcome outcome;
  bool backoff;
  uint64_t duration_us;
  char *error, *traceback; /* clean text, NULL without */
};

struct batch {
  struct job *jobs;
  int count;
  int open;        /* jobs without an outcome */
  uint32_t number; /* of the batch, on the wire */
};

/*
 * batch_take(batch, result, queues, indexes): fills an empty batch from STATEMENT_CLAIM's rows; row position p is of
 * queues[p - 1], which is the executor's queue number indexes[p - 1]. A row that cannot be run has its outcome already:
 * it fails, with the reason as its error.
 */
void batch_take(struct batch *batch, const PGresult *result, struct queue *const *queues, const uint32_t *indexes);

/* batch_send(batch, result, out): adds to `out` a frame with all jobs whose data the claim brought, and marks them. */
void batch_send(struct batch *batch, const PGresult *result, struct buffer *out);

/* batch_next_large(batch): index of a job that waits for its data to be fetched, or -1. */
int batch_next_large(const struct batch *batch);

/* batch_send_large(batch, index, data, length, out): a frame with that one job. */
void batch_send_large(struct batch *batch, int index, const char *data, size_t length, struct buffer *out);

/*
 * batch_end_job(batch, index, outcome): what an executor said of a job; texts are copied and cleaned. Returns false
 * when there is no such job, or it has ended before.
 */
bool batch_end_job(struct batch *batch, uint32_t index, const struct child_outcome *outcome);

/* batch_fail_job(batch, id, error): the job, if it is here and open, failed with this error. */
void batch_fail_job(struct batch *batch, int64_t id, const char *error);

/* batch_release(batch, queue, only_unsent): open jobs of `queue` (NULL: of all) go back as if not claimed. */
void batch_release(struct batch *batch, const struct queue *queue, bool only_unsent);

/* batch_has_open(batch, queue): whether a job of the queue has no outcome yet; sets *index to the executor's number. */
bool batch_has_open(const struct batch *batch, const struct queue *queue, uint32_t *index);

/* batch_learn(batch): tells the queues how long their jobs took. */
void batch_learn(const struct batch *batch);

/* batch_settle(batch, send, context): calls send() with each statement that writes the outcomes; none when all go back.
 */
void batch_settle(const struct batch *batch,
                  void (*send)(void *context, enum statement statement, const struct parameters *parameters),
                  void *context);

/* batch_log(batch): a line for each job that was settled. */
void batch_log(const struct batch *batch);

/* batch_clear(batch): forgets the jobs; the batch is empty again. */
void batch_clear(struct batch *batch);

#endif
