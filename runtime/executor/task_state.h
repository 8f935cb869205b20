#ifndef PGQ_TASK_STATE_H
#define PGQ_TASK_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "buffer.h"
#include "inbox.h"
#include "task.h"

/* For the files task*.c only. task.c runs tasks, task_interrupt.c interrupts them, task_settings.c undoes what they
 * have set, task_memory.c refuses jobs for which there is no memory. */

/* A job from its begin to its end. */
struct task {
  struct task_list *list;
  uint32_t number;
  struct task *next; /* in the list of tasks that may continue, or of free tasks */
  bool waits, ready, watched, transactional;
  uint32_t batch, index, queue;
  int64_t id;
  int64_t started_us, busy_us;
  int64_t timeout_ms; /* 0: none */
  bool interrupted, final;
  enum script_interrupt why;
  int64_t kill_at_us;
  uv_timer_t limit;           /* while the task waits: its time limit, or the end of its clean-up */
  struct process_state *kept; /* while it waits: its own settings of the process; NULL: it has none */
  bool kept_script;           /* while it waits: it has settings of its own of the Lua state */
};

/* A queue: its limits from FRAME_SERVE, and its tasks that wait. */
struct queue_limit {
  uint32_t concurrency;
  int64_t timeout_ms;
  bool preserve;
  uint32_t waiting;
  bool waits; /* whether its last task waited */
};

struct task_list {
  uv_loop_t *loop;
  struct script *script;
  struct shared_page *page;
  struct outbox *outbox;
  struct memory_pressure *pressure;
  const struct task_events *events;
  void *owner;
  struct inbox inbox;
  struct task **tasks; /* by number */
  uint32_t task_count;
  struct task *free, *first, **last; /* free tasks; tasks that may continue, in order */
  struct task *current;
  uint32_t waiting;
  uint32_t shared, concurrency; /* tasks that wait, of queues without their own limit, and the limit for them */
  uint32_t transactional, transactional_most; /* transactional jobs that run, and the limit for them */
  struct queue_limit *queues;                 /* NULL before SERVE */
  uint32_t queue_count;
  struct buffer fields;           /* of an outcome; kept for its memory */
  struct process_state *settings; /* those that each job begins with */
  int64_t compared_us;
  bool spent; /* a handler has left what cannot be undone: no job may begin */
};

/* task_make_ready(list, task): the task may continue, if it waits. */
void task_make_ready(struct task_list *list, struct task *task);

/* task_put_outcome(list, task, outcome, duration_us): sends the outcome of a task. Its batch and index are filled in.
 */
void task_put_outcome(struct task_list *list, const struct task *task, struct job_outcome outcome, int64_t duration_us);

/* task_may_begin(list, batch, position): writes to the shared page that a job begins. Returns false if the supervisor
 * has revoked its batch (see protocol.h). */
bool task_may_begin(struct task_list *list, uint32_t batch, uint32_t position);

/* task_on_limit(timer): called at the time limit of a task that waits, and when its clean-up has taken too long. */
void task_on_limit(uv_timer_t *timer);

/* task_bring_settings(list, task): the settings of a task that continues apply again. task_restore_settings(list, task,
 * waits, now_us): its handler has ended, or begun to wait; what it has set is undone, and kept if it waits. */
void task_bring_settings(struct task_list *list, struct task *task);
void task_restore_settings(struct task_list *list, struct task *task, bool waits, int64_t now_us);

/* task_fits(list, length): whether there is memory to begin a job with so much data. task_refuse(list, batch, job,
 * others): fails a job for which there is none, or gives it back if other jobs use the memory. */
bool task_fits(const struct task_list *list, size_t length);
void task_refuse(struct task_list *list, uint32_t batch, const struct message_job *job, bool others);

#endif
