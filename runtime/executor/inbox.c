#include "inbox.h"

#include <stdlib.h>

#include "memory.h"

/* A set of numbers. It is mostly empty. */
struct numbers {
  uint32_t *items;
  uint32_t count;
};

/* A frame of jobs. Those before `jobs.at` have been decoded. */
struct received_batch {
  struct received_batch *next;
  char *bytes;
  struct frame jobs;
  struct message_job job; /* the next job, if `peeked` */
  bool peeked;
  uint32_t number;
  uint32_t left;                  /* number of jobs that have not been dropped */
  bool recalled;                  /* all jobs were recalled */
  struct numbers queues, indexes; /* queues that were recalled, jobs that were cancelled */
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

void inbox_init(struct inbox *inbox) {
  inbox->first = NULL;
  inbox->last = &inbox->first;
}

static void drop_first(struct inbox *inbox) {
  struct received_batch *batch = inbox->first;
  inbox->first = batch->next;
  if (!inbox->first)
    inbox->last = &inbox->first;
  free(batch->queues.items);
  free(batch->indexes.items);
  free(batch->bytes);
  free(batch);
}

void inbox_free(struct inbox *inbox) {
  while (inbox->first)
    drop_first(inbox);
}

bool inbox_add(struct inbox *inbox, struct frame *frame, uint32_t queue_count) {
  struct message_jobs jobs;
  if (!message_get_jobs(frame, &jobs) || jobs.last_queue >= queue_count)
    return false;
  size_t length = frame_left(frame);
  struct received_batch *batch = memory_new(sizeof *batch);
  *batch = (struct received_batch){.number = jobs.batch, .left = jobs.count, .bytes = memory_copy(frame->at, length)};
  batch->jobs.at = (const unsigned char *)batch->bytes;
  batch->jobs.end = batch->jobs.at + length;
  *inbox->last = batch;
  inbox->last = &batch->next;
  return true;
}

bool inbox_has_more(const struct inbox *inbox, uint32_t jobs) {
  return inbox->first && (inbox->first->left > jobs || inbox->first->next);
}

void inbox_recall(struct inbox *inbox, uint32_t number, uint32_t queue) {
  for (struct received_batch *batch = inbox->first; batch; batch = batch->next) {
    if (number != 0 && batch->number != number)
      continue;
    if (queue == QUEUE_ALL)
      batch->recalled = true;
    else
      add(&batch->queues, queue);
  }
}

void inbox_cancel(struct inbox *inbox, uint32_t number, uint32_t index) {
  for (struct received_batch *batch = inbox->first; batch; batch = batch->next)
    if (batch->number == number)
      add(&batch->indexes, index);
}

bool inbox_peek(struct inbox *inbox, uint32_t *number, struct message_job *job) {
  struct received_batch *batch = inbox->first;
  if (!batch)
    return false;
  if (!batch->peeked && !message_get_job(&batch->jobs, &batch->job)) /* never: inbox_add() has checked the frame */
    return false;
  batch->peeked = true;
  *number = batch->number;
  *job = batch->job;
  return true;
}

bool inbox_may_begin(const struct inbox *inbox, const struct message_job *job) {
  const struct received_batch *batch = inbox->first;
  return !batch->recalled && !has(&batch->queues, job->queue) && !has(&batch->indexes, job->index);
}

void inbox_drop(struct inbox *inbox) {
  struct received_batch *batch = inbox->first;
  batch->peeked = false;
  if (--batch->left == 0)
    drop_first(inbox);
}
