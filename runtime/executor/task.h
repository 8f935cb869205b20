#ifndef PGQ_TASK_H
#define PGQ_TASK_H

#include <stdbool.h>

#include "frame.h"
#include "outbox.h"
#include "protocol.h"
#include "script.h"

/*
 * The jobs an executor has been given: batches wait in order, their jobs are decoded one by one out of the frames they
 * came in, run, and their outcomes put into the outbox.
 */
struct task_list;

/* task_list_new(script, page, outbox): all three must outlive it. */
struct task_list *task_list_new(struct script *script, struct shared_page *page, struct outbox *outbox);
void task_list_free(struct task_list *list);

/* task_list_add(list, frame): a frame of type FRAME_JOBS, which is copied. False when it is malformed: nothing is
 * added. */
bool task_list_add(struct task_list *list, struct frame *frame) __attribute__((warn_unused_result));

/* task_list_recall(list, batch, queue): jobs not started come back as OUTCOME_UNRUN when their turn comes. */
void task_list_recall(struct task_list *list, uint32_t batch, uint32_t queue);

/* task_list_step(list): runs the next job. False when there is none. */
bool task_list_step(struct task_list *list);

/* task_list_is_empty(list): all jobs have had their turn. */
bool task_list_is_empty(const struct task_list *list);

#endif
