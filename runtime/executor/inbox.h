#ifndef PGQ_INBOX_H
#define PGQ_INBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "message.h"

/*
 * The jobs that an executor has received and not begun: the frames of jobs, in their order. A job is decoded only when
 * it is its turn.
 */
struct inbox {
  struct received_batch *first, **last;
};

void inbox_init(struct inbox *inbox);
void inbox_free(struct inbox *inbox);

/*
 * inbox_add(inbox, frame, queue_count): copies the jobs of a FRAME_JOBS. Returns false, and adds nothing, if the frame
 * is malformed or has a job of a queue whose number is not below `queue_count`.
 */
bool inbox_add(struct inbox *inbox, struct frame *frame, uint32_t queue_count) __attribute__((warn_unused_result));

/* inbox_has_more(inbox, jobs): whether the inbox has more than that many jobs, 0 or 1. */
bool inbox_has_more(const struct inbox *inbox, uint32_t jobs);

/* inbox_recall(inbox, batch, queue): the jobs of that batch (0: of all batches) and queue (or QUEUE_ALL) that are in
 * the inbox now must not begin. They stay in the inbox. */
void inbox_recall(struct inbox *inbox, uint32_t batch, uint32_t queue);

/* inbox_cancel(inbox, batch, index): that job must not begin. */
void inbox_cancel(struct inbox *inbox, uint32_t batch, uint32_t index);

/* inbox_peek(inbox, batch, job): the next job and the number of its batch. The job's data is valid until inbox_drop().
 * Returns false if the inbox is empty. */
bool inbox_peek(struct inbox *inbox, uint32_t *batch, struct message_job *job);

/* inbox_may_begin(inbox, job): whether `job`, which inbox_peek() has returned, was neither recalled nor cancelled. */
bool inbox_may_begin(const struct inbox *inbox, const struct message_job *job);

/* inbox_drop(inbox): removes the job that inbox_peek() has returned. */
void inbox_drop(struct inbox *inbox);

#endif
