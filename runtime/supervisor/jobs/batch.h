#ifndef PGQ_BATCH_H
#define PGQ_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "child.h"
#include "job.h"
#include "queue.h"
#include "statements.h"

/* The jobs of one claim, and their outcomes. A zeroed batch is empty. */
struct batch {
  struct job *jobs;
  int count;
  int open;                   /* jobs without an outcome */
  uint32_t number;            /* the batch's number in frames; number % HOLDS_PER_EXECUTOR is the lane of its hold */
  uint32_t sent;              /* the highest position that a job has got so far */
  int64_t token;              /* first token of the leases that the jobs get before they run; 0: they are not leased */
  bool runs_alone;            /* no other job may run in the executor beside this batch; see deaths.h */
  bool has_more_to_run_alone; /* jobs went back that must run in such a batch */
};

/*
 * batch_take(batch, result, queues, indexes, transactional): fills an empty batch from STATEMENT_CLAIM's rows. A
 * row of queue position p belongs to queues[p - 1], which is the executor's queue indexes[p - 1]. Jobs that cannot be
 * run, or not together with the first one, get their outcome here.
 */
void batch_take(struct batch *batch, const PGresult *result, struct queue *const *queues, const uint32_t *indexes,
                const bool *transactional);

/* batch_send(batch, result, out): adds frames with all open jobs whose data the claim brought. */
void batch_send(struct batch *batch, const PGresult *result, struct buffer *out);

/* batch_next_large(batch): returns the index of an open job whose data has to be fetched, or -1. */
int batch_next_large(const struct batch *batch);

/* batch_send_large(batch, index, data, length, out): adds a frame with that one job. */
void batch_send_large(struct batch *batch, int index, const char *data, size_t length, struct buffer *out);

/* batch_end_job(batch, index, outcome): see job_end(). Returns false if the batch has no job at `index`, or if the job
 * has ended before. */
bool batch_end_job(struct batch *batch, uint32_t index, const struct job_outcome *outcome);

/* batch_fail_culprit(batch, death): the executor died while it ran the job death->culprit. If the batch has that job,
 * its attempt fails. */
void batch_fail_culprit(struct batch *batch, const struct child_death *death);

/*
 * batch_count_death(batch, begun, death): the executor died and the culprit is unknown. The death is counted for the
 * jobs that had begun, up to position `begun`; a job that had seen a death before, and ran alone, fails with the cause
 * of the death. The other jobs go back.
 */
void batch_count_death(struct batch *batch, uint32_t begun, const struct child_death *death);

/* batch_release(batch, queue, only_unsent): open jobs of the queue (NULL: of all queues) go back as if they had not
 * been claimed. With `only_unsent`, jobs that were sent to the executor stay. */
void batch_release(struct batch *batch, const struct queue *queue, bool only_unsent);

/* batch_count_unbegun(batch, begun): counts the open jobs after position `begun`. */
int batch_count_unbegun(const struct batch *batch, uint32_t begun);

/*
 * batch_split(batch, begun, token): the transaction must end. Open jobs up to position `begun` become leased, each
 * under the token `token` + its index; the other open jobs go back. Returns the number of leases.
 */
int batch_split(struct batch *batch, uint32_t begun, int64_t token);

/* batch_add(batch, job): adds a copy of the struct, and takes over its texts. */
void batch_add(struct batch *batch, const struct job *job);

/* batch_move(to, from): moves all jobs; `from` is empty afterwards. Both keep their numbers. */
void batch_move(struct batch *to, struct batch *from);

/* batch_find(batch, id): returns the open job with that id, or NULL. */
const struct job *batch_find(const struct batch *batch, int64_t id);

/* batch_has_unwritten_lease(batch, id): whether the batch has that job, and its lease is not written yet. */
bool batch_has_unwritten_lease(const struct batch *batch, int64_t id);

/* batch_has_open(batch, queue, index): whether a job of the queue is open; sets *index to the queue's index in the
 * executor. */
bool batch_has_open(const struct batch *batch, const struct queue *queue, uint32_t *index);

/* batch_sweep_next(batch): the next claim of each queue whose jobs go back is a sweep; these jobs may lie below the
 * queue's floor, where other claims do not look. */
void batch_sweep_next(const struct batch *batch);

/* batch_learn(batch): tells the queues how long their jobs took. batch_learn_waiting(batch, busy_us): tells the queues
 * of the jobs that are being leased that their handlers wait, and that each kept the executor busy for at most
 * `busy_us`. */
void batch_learn(const struct batch *batch);
void batch_learn_waiting(const struct batch *batch, int64_t busy_us);

/* batch_clear(batch): frees the jobs; the batch is empty again, and keeps its number. */
void batch_clear(struct batch *batch);

#endif
