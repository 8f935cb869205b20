#ifndef PGQ_QUEUE_H
#define PGQ_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

/* The floor below all: -infinity for Postgres, and the least id that is not our mark for null. */
#define FLOOR_US_LEAST INT64_MIN
#define FLOOR_ID_LEAST (INT64_MIN + 1)

/*
 * A queue as this worker sees it: what the script asked for, what was learned about its handlers, and its backoff.
 * Queues live as long as the worker. Times are clock_ms().
 */
struct queue {
  char *name;
  bool preserve_completed; /* resolved from flags, environment, script and queue */
  bool discard_failed;
  int64_t timeout_ms;      /* how long a handler may run; 0: as long as it likes */
  int32_t concurrency;     /* how many jobs an executor may have in flight; 0: no limit of its own */
  bool transactional;      /* its handlers complete their jobs themselves: leased at once, and not extended */
  int64_t backoff_ms;      /* 0: none; else the last pause */
  int64_t paused_until_ms; /* the pause ends then; in the past: not paused */
  double job_us;           /* what a job keeps an executor busy for: moving average, 0 while unknown */
  double run_us;           /* the same with its waits */
  double waited;           /* share of jobs that waited: moving average */
  int seen;                /* jobs since the last queue_learn(), and what they took */
  int64_t seen_us;
  int batch;         /* how many jobs a claim may take */
  double data_bytes; /* of a job: moving average */
  bool busy;         /* the last claim that asked it brought jobs */
  /*
   * The floor: claims begin behind it, in the order of run_after (as Postgres counts) and id. What is due below it was
   * enqueued by a transaction that began early and committed late, or was given back: a sweep finds it.
   */
  int64_t floor_us, floor_id;
  bool sweep_next; /* the next claim is a sweep: it starts from the beginning */
  struct queue *next;
};

/* All queues of the worker, in the order they were registered. Zeroed: none. */
struct queue_list {
  struct queue *first;
  int count;
};

/* queue_find(list, name): the queue of that name, made if there is none yet. */
struct queue *queue_find(struct queue_list *list, const char *name);
void queue_list_free(struct queue_list *list);

/* queue_back_off(queue, now_ms): a handler asked for it. The pause starts, twice as long as the last one; none while
 * a pause is on, for then the handler had started before it. Returns the pause in ms, or 0. */
int64_t queue_back_off(struct queue *queue, int64_t now_ms);

/* queue_succeeded(queue): a job completed; the next backoff starts with the shortest pause again. */
void queue_succeeded(struct queue *queue);

bool queue_is_paused(const struct queue *queue, int64_t now_ms);

/*
 * queue_set_floor(queue, run_after_us, id, full): a claim ended with this job. When it brought less than was asked
 * for (not `full`), the queue is nearly empty, and the floor stays a second behind, for those who commit late.
 */
void queue_set_floor(struct queue *queue, int64_t run_after_us, int64_t id, bool full);

/* queue_forget_floor(queue): nothing is known of what lies below. */
void queue_forget_floor(struct queue *queue);

/* queue_saw_data(queue, jobs, bytes): a claim brought so many jobs, with so much data altogether. */
void queue_saw_data(struct queue *queue, int jobs, int64_t bytes);

/* queue_saw(queue, busy_us): a job ran, and kept its executor busy for so long. */
void queue_saw(struct queue *queue, int64_t busy_us);

/* queue_saw_run(queue, waited, run_us): it waited, or not, and its handler took so long altogether. */
void queue_saw_run(struct queue *queue, bool waited, int64_t run_us);

/* queue_saw_waiting(queue): one of its jobs waits, and nobody knows for how long. */
void queue_saw_waiting(struct queue *queue);

/* queue_handlers_wait(queue): its handlers wait: how many jobs are in flight is bounded. queue_is_brief(queue): not for
 * long.
 */
bool queue_handlers_wait(const struct queue *queue);
bool queue_is_brief(const struct queue *queue);

/* queue_learn(queue): from the jobs seen since the last call, how many the next claim may take. */
void queue_learn(struct queue *queue);

#endif
