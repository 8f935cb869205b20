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
 * The tasks of an executor: it takes jobs from the inbox, in order, and begins each as a task, the coroutine of its
 * handler. While a task waits, other jobs begin, up to the limits of FRAME_SERVE. A task whose wait is over
 * (script_config.ready) continues before further jobs begin. A task that ends puts its outcome into the outbox.
 */
struct task_list;

struct task_events {
  /* There is something to do again; the owner is to call task_list_step() from its loop. */
  void (*work)(void *owner);
  /* The job has changed settings that all jobs share, whose names are in `names`, and they were set back. If `lost`,
   * they could not be: no further job begins, and the executor is to be replaced. */
  void (*left)(void *owner, int64_t job, const char *names, size_t length, bool lost);
};

/*
 * task_list_new(loop, script, page, outbox, pressure, events, owner): the arguments must outlive the list. While the
 * memory pressure is high and a task waits, jobs do not begin but go back to the supervisor. Each job begins with the
 * settings of the process and of the Lua state that apply now.
 */
struct task_list *task_list_new(uv_loop_t *loop, struct script *script, struct shared_page *page, struct outbox *outbox,
                                struct memory_pressure *pressure, const struct task_events *events, void *owner);

/* task_list_close(list): closes the timers. task_list_free(list): frees the list, after the loop has run once more. */
void task_list_close(struct task_list *list);
void task_list_free(struct task_list *list);

/* task_list_serve(list, frame): takes a FRAME_SERVE, the limits of the executor and of its queues. Returns false if the
 * frame is malformed, is a second one, or has another number of queues than the script has registered. */
bool task_list_serve(struct task_list *list, struct frame *frame) __attribute__((warn_unused_result));

/* task_list_add(list, frame): copies a FRAME_JOBS into the inbox. Returns false, and adds nothing, if the frame is
 * malformed or came before FRAME_SERVE. */
bool task_list_add(struct task_list *list, struct frame *frame) __attribute__((warn_unused_result));

/*
 * task_list_refuse(list, job): a job of one frame, of which index, position, batch and data_length are known, does not
 * fit into the memory. It fails with a message that says so. But if other jobs wait here, which take memory themselves,
 * it goes back to the supervisor, and its queue pauses.
 */
void task_list_refuse(struct task_list *list, uint32_t batch, const struct message_job *job);

/* task_list_refuse_all(list, frame): the same for a FRAME_JOBS with several jobs, which all go back: after the pause
 * fewer come at a time. Returns false if the frame is malformed. */
bool task_list_refuse_all(struct task_list *list, struct frame *frame) __attribute__((warn_unused_result));

/* task_list_recall(list, batch, queue): jobs of the batch and queue (or QUEUE_ALL) that have not begun go back to the
 * supervisor as OUTCOME_UNRUN, in their order. */
void task_list_recall(struct task_list *list, uint32_t batch, uint32_t queue);

/* task_list_cancel(list, batch, index): raises pgq.cancelled in the handler of that job, if it waits; a job that has
 * not begun goes back. */
void task_list_cancel(struct task_list *list, uint32_t batch, uint32_t index);

/* task_list_step(list): continues a task or begins the next job. Returns false when there is nothing to do. */
bool task_list_step(struct task_list *list);

/* task_list_count_waiting(list): the number of tasks that wait. */
uint32_t task_list_count_waiting(const struct task_list *list);

/* For the functions of struct script_config of the same names. */
bool task_list_current(const struct task_list *list, uint32_t *number);
void task_list_ready(struct task_list *list, uint32_t number);
void task_list_watch(struct task_list *list, uint32_t number);

#endif
