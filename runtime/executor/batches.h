#ifndef PGQ_BATCHES_H
#define PGQ_BATCHES_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "message.h"

/* The jobs that have not begun: frames of jobs, in the order they came in. Zeroed: none; first batches_init(). */
struct batches {
  struct waiting_batch *first, **last;
};

void batches_init(struct batches *batches);
void batches_free(struct batches *batches);

/* batches_add(batches, frame, queue_count): a frame of type FRAME_JOBS, which is copied. False when it is malformed, or
 * has a job of a queue that is not among so many. */
bool batches_add(struct batches *batches, struct frame *frame, uint32_t queue_count)
    __attribute__((warn_unused_result));

bool batches_are_empty(const struct batches *batches);

/* batches_recall(batches, batch, queue): jobs of the queue, or QUEUE_ALL, are not to begin. batch 0: in all of them. */
void batches_recall(struct batches *batches, uint32_t batch, uint32_t queue);

/* batches_cancel(batches, batch, index): that job is not to begin. */
void batches_cancel(struct batches *batches, uint32_t batch, uint32_t index);

/*
 * batches_peek(batches, batch, job): the next job, and its batch. Its data is read in place, until batches_drop().
 * False when there is none. batches_may_begin(batches, job): it has been neither recalled nor cancelled.
 */
bool batches_peek(struct batches *batches, uint32_t *batch, struct message_job *job);
bool batches_may_begin(const struct batches *batches, const struct message_job *job);

/* batches_drop(batches): the job that was looked at has begun, or is not going to. */
void batches_drop(struct batches *batches);

#endif
