#include "metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "memory.h"
#include "metrics_families.h"

/* A piece ends when it has so many bytes. */
enum { PIECE = 8 << 10 };

struct metrics {
  const struct worker_view *view;
  enum metrics_form form;
  const struct family *family; /* the next one */
  const struct queue *queue;   /* its next queue; NULL: none has been written */
  bool folds;                  /* the worker had more queues than fit when the text was begun */
  int count;                   /* how many queues it had */
  int position;                /* of `queue` */
  struct numbers folded;       /* the sum of those queues before `fold_next` that are folded */
  const struct queue *fold_next;
  int fold_position; /* of `fold_next` */
};

struct metrics *metrics_new(const struct worker_view *view, enum metrics_form form) {
  struct metrics *metrics = memory_new(sizeof *metrics);
  int count = view->queues->count;
  *metrics = (struct metrics){
      .view = view, .form = form, .family = metric_families, .count = count, .folds = count > METRICS_QUEUES_MOST};
  metrics->fold_next = view->queues->first;
  slot_list_count_in_flight(view->slots, view->queues);
  return metrics;
}

void metrics_free(struct metrics *metrics) {
  free(metrics);
}

static void add_up(struct numbers *numbers, const struct queue *queue) {
  int64_t now_ms = clock_ms();
  const struct queue_sample *sample = &queue->sample;
  tally_add(&numbers->tally, &queue->written);
  tally_add(&numbers->tally, &queue->tally);
  numbers->in_flight += queue->in_flight;
  if (!queue->registered)
    return;
  numbers->is_paused = numbers->is_paused || queue->paused;
  numbers->backs_off = numbers->backs_off || queue_backs_off(queue, now_ms);
  if (sample->at_ms == 0 || now_ms - sample->at_ms > SAMPLE_VALID_MS)
    return;
  numbers->has_sample = true;
  numbers->due += sample->due;
  if (sample->oldest_s > numbers->oldest_s)
    numbers->oldest_s = sample->oldest_s;
}

static void add_queue(const struct family *family, struct buffer *out, const char *name,
                      const struct numbers *numbers) {
  if (family->lines_of_queue) {
    family->lines_of_queue(out, family, name, numbers);
    return;
  }
  double value = family->of_queue(numbers);
  if (!isnan(value))
    metrics_sample(out, family->name, family->type, &(struct metric_label){"queue", name}, 1, value);
}

/* While queues are folded, a queue that is called `other` is folded too: no series may appear twice. */
static bool is_folded(const struct metrics *metrics, const struct queue *queue, int position) {
  return metrics->folds && (position >= METRICS_QUEUES_MOST || strcmp(queue->name, "other") == 0);
}

/* Adds some of the folded queues to their sum. There may be very many of them, and the worker does nothing else while
 * it adds. So a few are added after each queue that is written, and the sum is complete when the first family ends. */
static void fold_some(struct metrics *metrics) {
  int64_t until = (int64_t)(metrics->position + 1) * metrics->count / METRICS_QUEUES_MOST;
  for (; metrics->fold_position < until; metrics->fold_position++) {
    if (is_folded(metrics, metrics->fold_next, metrics->fold_position))
      add_up(&metrics->folded, metrics->fold_next);
    metrics->fold_next = metrics->fold_next->next;
  }
}

/* Adds the family's lines of some queues. Returns whether more follow. */
static bool add_queues(struct metrics *metrics, struct buffer *out) {
  if (!metrics->queue)
    metrics->queue = metrics->view->queues->first;
  for (; metrics->position < metrics->count && metrics->position < METRICS_QUEUES_MOST; metrics->position++) {
    struct numbers numbers = {0};
    if (out->length >= PIECE)
      return true;
    if (!is_folded(metrics, metrics->queue, metrics->position)) {
      add_up(&numbers, metrics->queue);
      add_queue(metrics->family, out, metrics->queue->name, &numbers);
    }
    if (metrics->folds)
      fold_some(metrics);
    metrics->queue = metrics->queue->next;
  }
  if (metrics->folds)
    add_queue(metrics->family, out, "other", &metrics->folded);
  metrics->queue = NULL;
  metrics->position = 0;
  return false;
}

/* Adds the family, or a part of it. Returns whether more follows. */
static bool add_family(struct metrics *metrics, struct buffer *out) {
  const struct family *family = metrics->family;
  if (!metrics->queue)
    metrics_head(out, metrics->form, family->name, family->type, family->unit, family->help);
  if (family->of_queue || family->lines_of_queue)
    return add_queues(metrics, out);
  double value = family->value ? family->value(metrics->view) : NAN;
  if (family->lines)
    family->lines(out, family, metrics->view);
  else if (!isnan(value))
    metrics_sample(out, family->name, family->type, NULL, 0, value);
  return false;
}

bool metrics_more(struct metrics *metrics, struct buffer *out) {
  while (out->length < PIECE) {
    if (add_family(metrics, out))
      return true;
    if (++metrics->family == metric_families + metric_family_count) {
      metrics_end(out, metrics->form);
      return false;
    }
  }
  return true;
}
