#ifndef PGQ_TASK_H
#define PGQ_TASK_H

#include <stdbool.h>
#include <uv.h>

#include "frame.h"
#include "memory_pressure.h"
#include "outbox.h"
#include "protocol.h"
#include "script.h"

/*
 * The jobs an executor has been given. Batches wait in order; their jobs are decoded one by one out of the frames they
 * came in, and each begins as a task. One that waits is set aside until script_config.ready() tells that it may go on;
 * meanwhile others begin, as long as not too many wait. What ends puts its outcome into the outbox.
 */
struct task_list;

/* task_list_new(loop, script, page, outbox, pressure, work): all must outlive it. While the pressure is high, jobs
 * begin only when no task waits; else they come back. work(owner) is called when there is something to do again:
 * task_list_step() is to follow, from the loop. */
struct task_list *task_list_new(uv_loop_t *loop, struct script *script, struct shared_page *page, struct outbox *outbox,
                                struct memory_pressure *pressure, void (*work)(void *owner), void *owner);

/* task_list_close(list): its timers end with the loop's next turn. task_list_free(list): after that. */
void task_list_close(struct task_list *list);
void task_list_free(struct task_list *list);

/* task_list_serve(list, frame): FRAME_SERVE: how many tasks may wait, and the limits of queues. False when it is
 * malformed, or not about the script's queues. */
bool task_list_serve(struct task_list *list, struct frame *frame) __attribute__((warn_unused_result));

/* task_list_add(list, frame): a frame of type FRAME_JOBS, which is copied. False when it is malformed, or came before
 * FRAME_SERVE: nothing is added. */
bool task_list_add(struct task_list *list, struct frame *frame) __attribute__((warn_unused_result));

/* task_list_recall(list, batch, queue): jobs not started come back as OUTCOME_UNRUN when their turn comes. */
void task_list_recall(struct task_list *list, uint32_t batch, uint32_t queue);

/* task_list_cancel(list, batch, index): pgq.cancelled is raised in that job; one that has not begun comes back. */
void task_list_cancel(struct task_list *list, uint32_t batch, uint32_t index);

/* task_list_step(list): a task goes on, or the next job begins. False when there is nothing to do. */
bool task_list_step(struct task_list *list);

/* task_list_waits(list): how many tasks wait. */
uint32_t task_list_waits(const struct task_list *list);

/* What the script asks: see struct script_config. */
bool task_list_current(const struct task_list *list, uint32_t *number);
void task_list_ready(struct task_list *list, uint32_t number);
void task_list_watch(struct task_list *list, uint32_t number);

#endif
