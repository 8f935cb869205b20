#include "batches.h"

#include <stdlib.h>

#include "memory.h"

/* A set of numbers; mostly empty. */
struct numbers {
  uint32_t *items;
  uint32_t count;
};

/* A frame of jobs: those before `jobs.at` have had their turn. */
struct waiting_batch {
  struct waiting_batch *next;
  char *bytes;
  struct frame jobs;
  struct message_job job; /* the one at the head, if `peeked` */
  bool peeked;
  uint32_t number;
  uint32_t left;
  bool recalled;                  /* all of it */
  struct numbers queues, indexes; /* that were recalled, and cancelled */
};

static bool has(const struct numbers *numbers, uint32_t number) {
  for (uint32_t i = 0; i < numbers->count; i++)
    if (numbers->items[i] == number)
      return true;
  return false;
}

static void add(struct numbers *numbers, uint32_t number) {
  if (has(numbers, number))
    return;
  numbers->items = memory_resize(numbers->items, (numbers->count + 1) * sizeof *numbers->items);
  numbers->items[numbers->count++] = number;
}

void batches_init(struct batches *batches) {
  batches->first = NULL;
  batches->last = &batches->first;
}

static void drop_first(struct batches *batches) {
  struct waiting_batch *batch = batches->first;
  batches->first = batch->next;
  if (!batches->first)
    batches->last = &batches->first;
  free(batch->queues.items);
  free(batch->indexes.items);
  free(batch->bytes);
  free(batch);
}

void batches_free(struct batches *batches) {
  while (batches->first)
    drop_first(batches);
}

bool batches_add(struct batches *batches, struct frame *frame, uint32_t queue_count) {
  struct message_jobs jobs;
  if (!message_get_jobs(frame, &jobs) || jobs.last_queue >= queue_count)
    return false;
  size_t length = frame_left(frame);
  struct waiting_batch *batch = memory_new(sizeof *batch);
  *batch = (struct waiting_batch){.number = jobs.batch, .left = jobs.count, .bytes = memory_copy(frame->at, length)};
  batch->jobs.at = (const unsigned char *)batch->bytes;
  batch->jobs.end = batch->jobs.at + length;
  *batches->last = batch;
  batches->last = &batch->next;
  return true;
}

bool batches_are_empty(const struct batches *batches) {
  return !batches->first;
}

void batches_recall(struct batches *batches, uint32_t number, uint32_t queue) {
  for (struct waiting_batch *batch = batches->first; batch; batch = batch->next) {
    if (number != 0 && batch->number != number)
      continue;
    if (queue == QUEUE_ALL)
      batch->recalled = true;
    else
      add(&batch->queues, queue);
  }
}

void batches_cancel(struct batches *batches, uint32_t number, uint32_t index) {
  for (struct waiting_batch *batch = batches->first; batch; batch = batch->next)
    if (batch->number == number)
      add(&batch->indexes, index);
}

bool batches_peek(struct batches *batches, uint32_t *number, struct message_job *job) {
  struct waiting_batch *batch = batches->first;
  if (!batch)
    return false;
  if (!batch->peeked && !message_get_job(&batch->jobs, &batch->job)) /* the frame was checked when it came */
    return false;
  batch->peeked = true;
  *number = batch->number;
  *job = batch->job;
  return true;
}

bool batches_may_begin(const struct batches *batches, const struct message_job *job) {
  const struct waiting_batch *batch = batches->first;
  return !batch->recalled && !has(&batch->queues, job->queue) && !has(&batch->indexes, job->index);
}

void batches_drop(struct batches *batches) {
  struct waiting_batch *batch = batches->first;
  batch->peeked = false;
  if (--batch->left == 0)
    drop_first(batches);
}
