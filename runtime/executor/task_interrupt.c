/* Interrupts tasks: at their time limit, and when their job is cancelled. */
#include "clock.h"
#include "inbox.h"
#include "task_state.h"

/* How long a task may wait during its clean-up after an interrupt. After that, each of its waits raises an error at
 * once. */
enum { TIMEOUT_CLEAN_MS = 5000, CANCEL_CLEAN_MS = 1000 };

/* How long the task may then run until the supervisor kills its process. */
enum { FINAL_MS = 1000 };

static void interrupt(struct task *task, enum script_interrupt why, bool final) {
  struct task_list *list = task->list;
  int64_t clean_ms = why == SCRIPT_TIMEOUT ? TIMEOUT_CLEAN_MS : CANCEL_CLEAN_MS;
  task->why = why;
  task->interrupted = true;
  task->final = final;
  task->kill_at_us = clock_us() + (final ? 0 : clean_ms * 1000) + (int64_t)FINAL_MS * 1000;
  uv_timer_stop(&task->limit);
  if (!final)
    uv_timer_start(&task->limit, task_on_limit, (uint64_t)clean_ms, 0);
  script_interrupt(list->script, task->number, why, final);
  task_make_ready(list, task);
}

void task_on_limit(uv_timer_t *timer) {
  struct task *task = timer->data;
  if (task->interrupted)
    interrupt(task, task->why, true);
  else
    interrupt(task, SCRIPT_TIMEOUT, false);
}

void task_list_cancel(struct task_list *list, uint32_t batch, uint32_t index) {
  inbox_cancel(&list->inbox, batch, index);
  for (uint32_t i = 0; i < list->task_count; i++) {
    struct task *task = list->tasks[i];
    if (task->waits && task->batch == batch && task->index == index && !task->final)
      interrupt(task, SCRIPT_CANCELLED, false);
  }
}
