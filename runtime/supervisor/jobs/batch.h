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
  uint64_t tid; /* where the row stands while the claim's transaction lasts; 0: not known, it is found by its id */
  struct queue *queue;
  uint32_t queue_index;                /* of the queue in the executor's own list */
  int32_t attempt;                     /* this one, from 1 */
  bool suspect;                        /* it was in flight when an executor died without a culprit */
  int64_t lease;                       /* token; 0: held by the transaction's lock, not leased */
  int32_t retries_left;                /* after this attempt */
  int64_t next_wait_ms;                /* PARAMETER_NULL_I64: no retry; when it is snoozed: until it runs again */
  int64_t created_at_us, run_after_us; /* as Postgres counts */
  int32_t data_length;                 /* of large data, which the claim has left behind; 0: it came along */
  uint32_t position; /* among those sent to the executor, from 1; 0: not sent. Much data is sent alone, in its turn */
  enum outcome outcome;
  bool backoff, waited;
  uint64_t duration_us, busy_us;
  char *error, *traceback; /* clean text, NULL without */
  bool written;            /* the database has taken the outcome */
  bool blamed;             /* it could not be settled, not even alone: its error says so now */
};

struct batch {
  struct job *jobs;
  int count;
  int open;              /* jobs without an outcome */
  uint32_t number;       /* of the batch, on the wire */
  uint32_t sent;         /* the last position given */
  int64_t token;         /* its jobs are to be leased before they run, with tokens from this on; 0: they need not */
  bool is_suspect_group; /* its jobs are suspects: nothing else may be with the executor */
};

/*
 * batch_take(batch, result, queues, indexes, suspect_group_size): fills an empty batch from STATEMENT_CLAIM's rows; row
 * position p is of queues[p - 1], which is the executor's queue number indexes[p - 1]. A row that cannot be run has its
 * outcome already: it fails, with the reason as its error. Of suspects, at most `suspect_group_size` run together, and
 * nothing else beside them.
 */
void batch_take(struct batch *batch, const PGresult *result, struct queue *const *queues, const uint32_t *indexes,
                int suspect_group_size);

/* batch_send(batch, result, out): adds to `out` a frame with all jobs whose data the claim brought, and marks them. */
void batch_send(struct batch *batch, const PGresult *result, struct buffer *out);

/* batch_next_large(batch): index of a job that waits for its data to be fetched, or -1. */
int batch_next_large(const struct batch *batch);

/* batch_send_large(batch, index, data, length, out): a frame with that one job. */
void batch_send_large(struct batch *batch, int index, const char *data, size_t length, struct buffer *out);

/* job_end(job, outcome): what an executor said of a job; texts are copied and cleaned. */
void job_end(struct job *job, const struct job_outcome *outcome);

/* job_fail(job, error): the job failed with this error, which is copied and cleaned. */
void job_fail(struct job *job, const char *error);

/* job_fail_for_good(job, error): the same, and no retry. */
void job_fail_for_good(struct job *job, const char *error);

/* job_learn(job): tells the queue how long it took. */
void job_learn(const struct job *job);

/* job_free(job): frees its texts. */
void job_free(struct job *job);

/* batch_end_job(batch, index, outcome): false when there is no such job, or it has ended before. */
bool batch_end_job(struct batch *batch, uint32_t index, const struct job_outcome *outcome);

/* batch_fail_job(batch, death): the culprit, if it is here and open, failed with the cause. */
void batch_fail_job(struct batch *batch, const struct child_death *death);

/*
 * batch_child_died(batch, begun, death): the executor died, and nobody knows of which job. Those that had begun, up to
 * position `begun`, become suspects, but for one that was alone: it fails with the cause. What had not begun goes back.
 */
void batch_child_died(struct batch *batch, uint32_t begun, const struct child_death *death);

/* batch_release(batch, queue, only_unsent): open jobs of `queue` (NULL: of all) go back as if not claimed. */
void batch_release(struct batch *batch, const struct queue *queue, bool only_unsent);

/* batch_count_unbegun(batch, begun): open jobs that were sent, and stand behind position `begun`. */
int batch_count_unbegun(const struct batch *batch, uint32_t begun);

/*
 * batch_split(batch, begun, token): the time of the hold is up. Jobs that were begun, up to position `begun`, are to be
 * leased, each with the token `token` and its index; the others go back. Returns the number of leases.
 */
int batch_split(struct batch *batch, uint32_t begun, int64_t token);

/* batch_add(batch, job): takes the job over, with its texts; the batch's number stays. */
void batch_add(struct batch *batch, const struct job *job);

/* batch_move(to, from): adds all jobs of `from`, which is then empty; both keep their numbers. */
void batch_move(struct batch *to, struct batch *from);

/* batch_find(batch, id): the open job of that id, or NULL. */
const struct job *batch_find(const struct batch *batch, int64_t id);

/* batch_has_unwritten_lease(batch, id): whether the batch is to lease that job. */
bool batch_has_unwritten_lease(const struct batch *batch, int64_t id);

/* batch_has_open(batch, queue): whether a job of the queue has no outcome yet; sets *index to the executor's number. */
bool batch_has_open(const struct batch *batch, const struct queue *queue, uint32_t *index);

/* batch_make_ascii(batch): error texts keep only what every encoding has; for databases that do not have all. */
void batch_make_ascii(struct batch *batch);

/* batch_sweep_next(batch): the next claim of queues of which jobs go back is a sweep: else it would not see them. */
void batch_sweep_next(const struct batch *batch);

/* batch_learn_waiting(batch, busy_us): those of its jobs that are to be leased all wait: tells their queues, and for
 * how long each kept the executor busy at most. */
void batch_learn_waiting(const struct batch *batch, int64_t busy_us);

/* batch_learn(batch): tells the queues how long their jobs took. */
void batch_learn(const struct batch *batch);

/*
 * batch_settle(batch, lease_ms, send, context): leases last `lease_ms` (of transactional queues: the time limit and a
 * margin). Calls send() with each statement that writes the outcomes; none when
 * all jobs go back and none is leased.
 */
void batch_settle(const struct batch *batch, int64_t lease_ms,
                  void (*send)(void *context, enum statement statement, const struct parameters *parameters),
                  void *context);

/*
 * batch_written(batch, statement, result): marks the jobs that `statement`, sent by batch_settle(), has written. For
 * STATEMENT_LOCK_FOR_RESCUE: those that were locked.
 */
void batch_written(struct batch *batch, enum statement statement, const PGresult *result);

/* batch_relock(batch, parameters): the parameters of STATEMENT_LOCK_FOR_RESCUE for all its jobs. */
void batch_relock(const struct batch *batch, struct parameters *parameters);

/* batch_log(batch): a line for each job that was settled, and for each whose outcome nobody wanted any more. */
void batch_log(const struct batch *batch);

/* batch_clear(batch): forgets the jobs; the batch is empty again. */
void batch_clear(struct batch *batch);

#endif
