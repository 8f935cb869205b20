#ifndef PGQ_QUEUE_H
#define PGQ_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "region.h"
#include "tally.h"

/* The floor of a queue of which every job is claimed: -infinity in Postgres, and the least id. */
#define FLOOR_US_LEAST INT64_MIN
#define FLOOR_ID_LEAST INT64_MIN

/* The end of a pause that lasts until the queue is resumed. */
#define PAUSED_FOR_EVER_MS INT64_MAX
/* No claim asks a queue of which this worker has so many outcomes that cannot be written. */
enum { QUEUE_IGNORED_MOST = 1000 };

/* What the database had of a queue when it was last asked for the metrics (fleet/samples.c). Zeroed: never. */
struct queue_sample {
  int64_t at_ms;   /* when, by clock_ms(); 0: never, or the last try has failed */
  int64_t due;     /* jobs that are due, counted up to a limit */
  double oldest_s; /* for how long the oldest of them has been due, in seconds */
};

/*
 * A queue as this worker sees it: its settings, the statistics about its handlers, and its backoff. Queues live as long
 * as the worker. Times are clock_ms().
 */
struct queue {
  char *name;
  bool registered;         /* the version of the script that new executors run registers the queue */
  bool preserve_completed; /* these settings are resolved from command line, environment and script */
  bool discard_failed;
  bool keep_attempts;       /* every attempt gets a row in pgq_attempts, not only failed ones */
  int64_t timeout_ms;       /* how long a handler may run; 0: no limit */
  int32_t concurrency;      /* how many jobs an executor may have in flight; 0: no limit of its own */
  bool transactional;       /* its handlers complete their jobs themselves: jobs are leased at once, and not extended */
  int64_t backoff_ms;       /* length of the last backoff; 0: the queue does not back off */
  int64_t backoff_until_ms; /* end of the backoff; in the past: there is none */
  char *backoff_error;      /* the error of the handler that asked for the last backoff; NULL: none */
  int64_t pause_until_ms;   /* end of the pause; in the past: the queue is not paused */
  bool known, paused;       /* its row in pgq_queues was read; the row says that it is paused */
  bool resumed;             /* the row says that it was resumed, and when, as Postgres counts: */
  int64_t resumed_us;
  double job_us; /* how long a job keeps its executor busy: moving average, 0 while unknown */
  double run_us; /* how long a job runs, waits included: moving average */
  double waited; /* share of jobs whose handlers waited: moving average */
  int seen;      /* jobs since the last queue_learn(), and their busy time */
  int64_t seen_us;
  int batch;         /* how many jobs a claim may take */
  double data_bytes; /* size of a job's data: moving average */
  bool busy;         /* the last claim that asked this queue brought jobs, or a later look found some */
  uint64_t turn;     /* number of the claim that asked this queue last, among all of this worker; 0: it comes first */
  int64_t looked_ms; /* when a look last asked this queue */
  /*
   * The floor: claims start at it, in the order of run_after (as Postgres counts) and id. A job below it was
   * enqueued by a transaction that began early and committed late, or was given back. Only a sweep finds that job.
   */
  int64_t floor_us, floor_id;
  bool sweep_next;          /* the next claim is a sweep: it starts from the beginning */
  int ignored;              /* number of jobs whose outcome is kept because the database refuses or ignores it */
  int refused_in_a_row;     /* how many outcomes the database has refused or ignored since it took one */
  int64_t refused_until_ms; /* end of the pause because of that; see queue_refuse() */
  int64_t refused_wait_ms;  /* its length */
  struct region region;
  struct tally tally;   /* what was counted and is not in the database yet */
  struct tally written; /* what was counted before */
  struct queue_sample sample;
  int in_flight; /* jobs of the worker, when slot_list_count_in_flight() was last called */
  struct queue *next;
};

/* All queues of the worker, in the order they were registered. A zeroed list is empty. */
struct queue_list {
  struct queue *first;
  int count;
};

/* queue_find(list, name): returns the queue with that name, and creates it if there is none. A new queue is paused
 * until queue_set_pause() says that it is not: the worker does not know it yet. */
struct queue *queue_find(struct queue_list *list, const char *name);
void queue_list_free(struct queue_list *list);

/* queue_back_off(queue, now_ms, error): a handler asked for backoff with this error, or NULL: no jobs are claimed for a
 * while, twice as long as last time. The error is copied. Returns this time in ms; 0 if the queue backs off already,
 * since that handler began before. */
int64_t queue_back_off(struct queue *queue, int64_t now_ms, const char *error);

/* queue_succeeded(queue): a job completed: the next backoff is the shortest again. */
void queue_succeeded(struct queue *queue);

/* queue_end_backoff(queue): jobs may be claimed again. */
void queue_end_backoff(struct queue *queue);

/* queue_set_pause(queue, until_ms): an operator has paused the queue until this time, or PAUSED_FOR_EVER_MS; 0: it is
 * not paused. A pause and a backoff do not end each other. */
void queue_set_pause(struct queue *queue, int64_t until_ms);

/* Whether an operator has paused the queue; whether it backs off; whether one of them is so, and no job is claimed. */
bool queue_is_paused(const struct queue *queue, int64_t now_ms);
bool queue_backs_off(const struct queue *queue, int64_t now_ms);
bool queue_is_shut(const struct queue *queue, int64_t now_ms);

/* queue_opens_in_ms(queue, now_ms): how long the queue stays shut; -1: it is open, or stays shut until it is resumed.
 */
int64_t queue_opens_in_ms(const struct queue *queue, int64_t now_ms);

/*
 * queue_refuse(queue, now_ms): the database refuses or ignores the outcome of a job, alone. If that happens to one job
 * after the other, the queue pauses, for a second, then up to a minute: a trigger may concern all of its rows. Claims
 * take one job at a time again. queue_wrote(queue): an outcome was written, which ends the pause. Returns whether there
 * was one.
 */
void queue_refuse(struct queue *queue, int64_t now_ms);
bool queue_wrote(struct queue *queue);

/*
 * queue_set_floor(queue, run_after_us, id, full): a claim ended with this job. If the claim brought less than it asked
 * for (not `full`), the queue is nearly empty, and the floor stays a second behind for transactions that commit late.
 */
void queue_set_floor(struct queue *queue, int64_t run_after_us, int64_t id, bool full);

/* queue_forget_floor(queue): the next claim starts from the beginning. */
void queue_forget_floor(struct queue *queue);

/* queue_saw_data(queue, jobs, bytes): a claim brought `jobs` jobs with `bytes` bytes of data in total. */
void queue_saw_data(struct queue *queue, int jobs, int64_t bytes);

/* queue_saw(queue, busy_us): a job ran, and kept its executor busy for `busy_us`. */
void queue_saw(struct queue *queue, int64_t busy_us);

/* queue_saw_run(queue, waited, run_us): a handler took `run_us` in total; `waited`: it waited at least once. */
void queue_saw_run(struct queue *queue, bool waited, int64_t run_us);

/* queue_saw_waiting(queue): the handler of a job waits, and it is unknown for how long. */
void queue_saw_waiting(struct queue *queue);

/* queue_handlers_wait(queue): some of its handlers wait, so the number of jobs in flight must be limited.
 * queue_is_brief(queue): its jobs end within milliseconds. */
bool queue_handlers_wait(const struct queue *queue);
bool queue_is_brief(const struct queue *queue);

/* queue_fits(queue): returns how many of its jobs an executor runs in the time that a claim is for. */
int queue_fits(const struct queue *queue);

/* queue_learn(queue): computes from the jobs seen since the last call how many jobs the next claim may take. */
void queue_learn(struct queue *queue);

#endif
