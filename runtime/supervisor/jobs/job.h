#ifndef PGQ_JOB_H
#define PGQ_JOB_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "message.h"
#include "protocol.h"
#include "queue.h"

/* Instead of a wait: the job is not retried. */
#define NO_NEXT_WAIT INT64_MIN

/* A job that the worker has claimed, from the claim until its outcome is written. */
struct job {
  int64_t id;
  uint64_t tid; /* place of the row during the claim's transaction; 0: unknown, the row is found by its id */
  struct queue *queue;
  uint32_t queue_index; /* index of the queue in the executor's list */
  int32_t attempt;      /* number of this attempt, from 1 */
  int32_t deaths;       /* see deaths.h */
  bool interrupted;     /* an earlier claim of the job ended without an outcome: its worker may have died */
  bool died;            /* the failed attempt ended with the death of a process: the outcome keeps `deaths` */
  bool transactional;   /* its handler completes it: as the queue was for the version of the script that runs it */
  bool leased;          /* the row has a lease; otherwise the transaction's lock holds the job */
  int64_t lease;        /* token of the lease, any number: the row may have come with it */
  int32_t retries_left; /* number of retries after this attempt */
  int64_t next_wait_ms; /* wait before the next attempt; NO_NEXT_WAIT: there is no next attempt */
  int64_t created_at_us, run_after_us; /* microseconds since 2000, as Postgres counts */
  int32_t data_length;                 /* bytes of large data, which has to be fetched; 0: the claim brought the data */
  uint32_t position;    /* number among the jobs of its batch that were sent to the executor, from 1; 0: not sent */
  enum outcome outcome; /* OUTCOME_NONE while the job runs; the fields below are valid after it ended */
  bool backoff, waited; /* see struct job_outcome */
  uint64_t duration_us, busy_us;
  int64_t began_us;        /* clock_us() when the handler began; 0: it did not begin here, or that is not known */
  char *error, *traceback; /* valid UTF-8 without NUL, owned by the job; NULL: none */
  bool written;            /* the database has accepted the outcome */
  bool locked_elsewhere;   /* the row has not changed, but another session has locked it */
  bool blamed;             /* the outcome could not be written, not even alone: the job's error states this now */
  int ignored;             /* how often a write of the outcome changed no row */
  bool refused;            /* the job was kept in struct refused; the two fields below are valid there */
  int64_t again_ms, again_wait_ms; /* when it is tried again; how long that wait was */
  bool counted;                    /* the job is ignored or refused, and queue->ignored counts it */
};

/*
 * job_take(job, result, row): fills the job from a row of STATEMENT_CLAIM; the caller sets the queue. A job that cannot
 * be run ends here: it fails, for good if its data or its retry waits are unusable.
 */
void job_take(struct job *job, const PGresult *result, int row);

/* job_end(job, outcome): the executor reports how the job ended. Texts are copied and cleaned. */
void job_end(struct job *job, const struct job_outcome *outcome);

/* job_fail(job, error): the attempt failed with this error, which is copied and cleaned. job_fail_for_good(): the same,
 * and the job is not retried. */
void job_fail(struct job *job, const char *error);
void job_fail_for_good(struct job *job, const char *error);

/* job_died(job, culprit, error): a process died while the job was in flight. The culprit's attempt fails with this
 * error, which is copied and cleaned; otherwise the death is counted. */
void job_died(struct job *job, bool culprit, const char *error);

/* job_learn(job): tells the job's queue how long the job took. */
void job_learn(const struct job *job);

/* job_ignore(job): a write of the job's outcome changed no row. job_refuse(job): the job is kept in struct refused.
 * Until job_free(), queue->ignored counts the job. */
void job_ignore(struct job *job);
void job_refuse(struct job *job);

/* job_free(job): frees the texts. The job is no longer in the hands of this worker. */
void job_free(struct job *job);

#endif
