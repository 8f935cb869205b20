/* Settings of the process and of the Lua state that a handler has left changed, and that the next job must not see. */
#include "clock.h"
#include "process_calls.h"
#include "process_state.h"
#include "task_state.h"

/* The settings of the process are compared after a call that may have changed them, and also this often, since there
 * are calls that are not noticed. A comparison takes about ninety system calls. */
enum { COMPARE_US = 50000 };

void task_bring_settings(struct task_list *list, struct task *task) {
  struct buffer unused = {0};
  if (task->kept) {
    process_state_restore(task->kept, &unused, &unused);
    process_state_free(task->kept);
    task->kept = NULL;
    list->compared_us = 0; /* they are to be undone again */
  }
  if (task->kept_script)
    script_bring_settings(list->script, task->number);
  task->kept_script = false;
  buffer_free(&unused);
}

void task_restore_settings(struct task_list *list, struct task *task, bool waits, int64_t now_us) {
  struct buffer changed = {0}, lost = {0};
  bool script = script_settings_changed(list->script);
  bool process = process_calls_seen() || now_us - list->compared_us >= COMPARE_US;
  if (!script && !process)
    return;
  list->compared_us = now_us;
  if (script)
    script_restore_settings(list->script, task->number, waits, &changed, &lost);
  task->kept_script = waits && changed.length > 0;
  if (process && process_state_differs(list->settings)) {
    task->kept = waits ? process_state_take() : NULL;
    process_state_restore(list->settings, &changed, &lost);
  }
  process_calls_forget();
  list->spent = list->spent || lost.length > 0;
  if (lost.length > 0)
    list->events->left(list->owner, task->id, (const char *)lost.bytes, lost.length, true);
  else if (changed.length > 0 && !waits)
    list->events->left(list->owner, task->id, (const char *)changed.bytes, changed.length, false);
  buffer_free(&changed);
  buffer_free(&lost);
}
