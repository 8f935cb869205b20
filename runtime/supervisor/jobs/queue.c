#include "queue.h"

#include <stdlib.h>
#include <string.h>

#include "growing_wait.h"
#include "memory.h"

enum { BACKOFF_LEAST_MS = 100, BACKOFF_MOST_MS = 60000 };
enum { REFUSED_LEAST_MS = 1000, REFUSED_MOST_MS = 60000 };

/* A claim brings about this much work: a crash repeats only a little, and round trips are still rare. */
enum { BATCH_WORK_US = 50000, BATCH_MOST = 1000 };

/* The handlers of a queue count as waiting if one of its last few dozen handlers has waited. The queue is brief if its
 * jobs take BRIEF_US at most. */
#define WAITS_LEAST 0.02
enum { BRIEF_US = 12500 };

/* How far the floor of a nearly empty queue stays behind its last job. */
enum { FLOOR_MARGIN_US = 1000000 };

struct queue *queue_find(struct queue_list *list, const char *name) {
  struct queue **at = &list->first;
  for (; *at; at = &(*at)->next)
    if (strcmp((*at)->name, name) == 0)
      return *at;
  *at = memory_new(sizeof **at);
  (*at)->name = memory_text(name);
  (*at)->batch = 1;
  (*at)->pause_until_ms = PAUSED_FOR_EVER_MS;
  queue_forget_floor(*at);
  list->count++;
  return *at;
}

void queue_list_free(struct queue_list *list) {
  struct queue *next;
  for (struct queue *queue = list->first; queue; queue = next) {
    next = queue->next;
    free(queue->name);
    free(queue->backoff_error);
    free(queue);
  }
  *list = (struct queue_list){0};
}

int64_t queue_back_off(struct queue *queue, int64_t now_ms, const char *error) {
  if (queue_backs_off(queue, now_ms))
    return 0;
  queue->backoff_ms = growing_wait_after(queue->backoff_ms, BACKOFF_LEAST_MS, BACKOFF_MOST_MS);
  queue->backoff_until_ms = now_ms + queue->backoff_ms;
  free(queue->backoff_error);
  queue->backoff_error = memory_text(error);
  queue->batch = 1; /* one job will show whether handlers succeed again */
  return queue->backoff_ms;
}

void queue_succeeded(struct queue *queue) {
  queue->backoff_ms = 0;
}

void queue_end_backoff(struct queue *queue) {
  queue->backoff_ms = queue->backoff_until_ms = 0;
}

void queue_set_pause(struct queue *queue, int64_t until_ms) {
  queue->pause_until_ms = until_ms;
}

bool queue_is_paused(const struct queue *queue, int64_t now_ms) {
  return queue->pause_until_ms > now_ms;
}

bool queue_backs_off(const struct queue *queue, int64_t now_ms) {
  return queue->backoff_until_ms > now_ms;
}

bool queue_is_shut(const struct queue *queue, int64_t now_ms) {
  return queue_is_paused(queue, now_ms) || queue_backs_off(queue, now_ms);
}

int64_t queue_opens_in_ms(const struct queue *queue, int64_t now_ms) {
  int64_t until_ms = queue->pause_until_ms > queue->backoff_until_ms ? queue->pause_until_ms : queue->backoff_until_ms;
  return until_ms > now_ms && until_ms < PAUSED_FOR_EVER_MS ? until_ms - now_ms : -1;
}

void queue_refuse(struct queue *queue, int64_t now_ms) {
  queue->batch = 1;
  if (queue->refused_in_a_row++ == 0)
    return;
  queue->refused_wait_ms = growing_wait_after(queue->refused_wait_ms, REFUSED_LEAST_MS, REFUSED_MOST_MS);
  queue->refused_until_ms = now_ms + queue->refused_wait_ms;
  if (queue->backoff_until_ms < queue->refused_until_ms)
    queue->backoff_until_ms = queue->refused_until_ms;
}

bool queue_wrote(struct queue *queue) {
  bool paused = queue->refused_until_ms > 0;
  if (paused && queue->backoff_until_ms == queue->refused_until_ms)
    queue->backoff_until_ms = 0;
  queue->refused_in_a_row = 0;
  queue->refused_wait_ms = queue->refused_until_ms = 0;
  return paused;
}

void queue_set_floor(struct queue *queue, int64_t run_after_us, int64_t id, bool full) {
  if (full) {
    queue->floor_us = run_after_us;
    queue->floor_id = id;
  } else if (run_after_us > queue->floor_us + FLOOR_MARGIN_US) {
    queue->floor_us = run_after_us - FLOOR_MARGIN_US;
    queue->floor_id = FLOOR_ID_LEAST;
  }
}

void queue_forget_floor(struct queue *queue) {
  region_forget(&queue->region);
  queue->sweep_next = true;
  queue->floor_us = FLOOR_US_LEAST;
  queue->floor_id = FLOOR_ID_LEAST;
}

void queue_saw_data(struct queue *queue, int jobs, int64_t bytes) {
  double seen = (double)bytes / jobs;
  queue->data_bytes = queue->data_bytes > 0 ? (queue->data_bytes * 3 + seen) / 4 : seen;
}

void queue_saw(struct queue *queue, int64_t busy_us) {
  queue->seen++;
  queue->seen_us += busy_us;
}

void queue_saw_run(struct queue *queue, bool waited, int64_t run_us) {
  queue->waited = (queue->waited * 7 + waited) / 8;
  queue->run_us = queue->run_us > 0 ? (queue->run_us * 7 + (double)run_us) / 8 : (double)run_us;
}

void queue_saw_waiting(struct queue *queue) {
  queue_saw_run(queue, true, 2 * BRIEF_US);
}

bool queue_handlers_wait(const struct queue *queue) {
  return queue->transactional || queue->waited > WAITS_LEAST; /* their handlers wait for the server */
}

bool queue_is_brief(const struct queue *queue) {
  return queue->run_us > 0 && queue->run_us <= BRIEF_US;
}

int queue_fits(const struct queue *queue) {
  double fits = BATCH_WORK_US / (queue->job_us > 1 ? queue->job_us : 1);
  return fits < 1 ? 1 : fits > BATCH_MOST ? BATCH_MOST : (int)fits;
}

void queue_learn(struct queue *queue) {
  if (queue->seen == 0)
    return;
  double seen = (double)queue->seen_us / queue->seen;
  queue->seen = 0;
  queue->seen_us = 0;
  queue->job_us = queue->job_us > 0 ? (queue->job_us * 3 + seen) / 4 : seen;
  int fits = queue_fits(queue);
  queue->batch = queue->refused_in_a_row > 0 ? 1 : fits < queue->batch * 2 ? fits : queue->batch * 2;
}
