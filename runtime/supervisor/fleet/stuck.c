#include "stuck.h"

#include <stdio.h>
#include <stdlib.h>

#include "log.h"
#include "memory.h"
#include "old_executors.h"

enum { LOOK_MS = 1000 };

/* A handler that still runs is logged after these times. */
static const int64_t handler_ms[] = {STUCK_HANDLER_MS, 60000, 300000, 1800000};
static const int64_t all_ms[] = {STUCK_ALL_MS, 60000, 300000, 1800000};

/* At most so many jobs are named in a line. */
enum { NAMED_MOST = 10, NAMED_SIZE = 1024 };

/* A stuck handler that was seen at the last look. */
struct seen {
  int pid;
  int64_t job;
  int logged; /* how often it was logged */
};

struct stuck {
  const struct slot_list *slots;
  void (*changed)(void *owner);
  void *owner;
  uv_timer_t timer;
  struct seen *seen;
  int count;
  struct old_executors old;
  int all_logged; /* how often it was logged that all executors are busy; 0: they are not */
};

bool stuck_is_handler(const struct slot_activity *activity) {
  return activity->runs && activity->busy_ms >= STUCK_HANDLER_MS;
}

int64_t stuck_all_busy_ms(const struct slot_list *slots) {
  int64_t least_ms = slots->count > 0 ? INT64_MAX : 0;
  for (int i = 0; i < slots->count; i++) {
    struct slot_activity activity;
    if (slot_is_replaced(slots->items[i]))
      continue;
    slot_get_activity(slots->items[i], &activity);
    int64_t busy_ms = activity.runs ? activity.busy_ms : 0;
    least_ms = busy_ms < least_ms ? busy_ms : least_ms;
  }
  return least_ms == INT64_MAX ? 0 : least_ms;
}

/* How many of the times have passed. */
static int passed(const int64_t times_ms[static 4], int64_t ms) {
  int count = 0;
  while (count < 4 && ms >= times_ms[count])
    count++;
  return count;
}

static int times_logged(const struct stuck *stuck, const struct slot_activity *activity) {
  for (int i = 0; i < stuck->count; i++)
    if (stuck->seen[i].pid == activity->pid && stuck->seen[i].job == activity->job)
      return stuck->seen[i].logged;
  return 0;
}

/* Logs the handler if it is time, and notes that it was seen. Returns whether it has just become stuck. */
static bool look_at(const struct stuck *stuck, const struct slot_activity *activity, struct seen *seen) {
  int before = times_logged(stuck, activity);
  *seen = (struct seen){activity->pid, activity->job, passed(handler_ms, activity->busy_ms)};
  if (seen->logged > before)
    log_warn("a handler has been running for long without waiting", LOG_T("queue", activity->queue),
             LOG_I("job", activity->job), LOG_I("pid", activity->pid), LOG_US("for", activity->busy_ms * 1000));
  return before == 0;
}

static void look_at_handlers(struct stuck *stuck) {
  struct seen *seen = memory_new(((size_t)stuck->slots->count + 1) * sizeof *seen);
  int count = 0, begun = 0;
  for (int i = 0; i < stuck->slots->count; i++) {
    struct slot_activity activity;
    slot_get_activity(stuck->slots->items[i], &activity);
    if (stuck_is_handler(&activity))
      begun += look_at(stuck, &activity, &seen[count++]);
  }
  bool changed = begun > 0 || count - begun < stuck->count;
  free(stuck->seen);
  stuck->seen = seen;
  stuck->count = count;
  if (changed)
    stuck->changed(stuck->owner);
}

static void log_all_busy(const struct stuck *stuck, int64_t busy_ms) {
  char jobs[NAMED_SIZE] = "";
  size_t length = 0;
  for (int i = 0; i < stuck->slots->count && i < NAMED_MOST; i++) {
    struct slot_activity activity;
    slot_get_activity(stuck->slots->items[i], &activity);
    if (!activity.runs || length >= sizeof jobs)
      continue;
    length += (size_t)snprintf(jobs + length, sizeof jobs - length, "%s%lld (%.60s)", length > 0 ? ", " : "",
                               (long long)activity.job, activity.queue ? activity.queue : "?");
  }
  log_warn("all executors are busy: no other job runs until a handler ends or waits",
           LOG_I("executors", stuck->slots->count), LOG_T("jobs", jobs), LOG_US("for", busy_ms * 1000));
}

static void look_at_all(struct stuck *stuck) {
  int64_t busy_ms = stuck_all_busy_ms(stuck->slots);
  int times = passed(all_ms, busy_ms), before = stuck->all_logged;
  if (times > before)
    log_all_busy(stuck, busy_ms);
  stuck->all_logged = times;
  if ((times > 0) != (before > 0))
    stuck->changed(stuck->owner);
}

static void on_timer(uv_timer_t *timer) {
  struct stuck *stuck = timer->data;
  look_at_handlers(stuck);
  look_at_all(stuck);
  if (old_executors_look(&stuck->old, stuck->slots))
    stuck->changed(stuck->owner);
}

struct stuck *stuck_new(uv_loop_t *loop, const struct slot_list *slots, void (*changed)(void *owner), void *owner) {
  struct stuck *stuck = memory_new(sizeof *stuck);
  *stuck = (struct stuck){.slots = slots, .changed = changed, .owner = owner};
  uv_timer_init(loop, &stuck->timer);
  stuck->timer.data = stuck;
  uv_timer_start(&stuck->timer, on_timer, LOOK_MS, LOOK_MS);
  return stuck;
}

static void free_stuck(uv_handle_t *timer) {
  struct stuck *stuck = timer->data;
  free(stuck->seen);
  free(stuck);
}

void stuck_free(struct stuck *stuck) {
  if (!stuck)
    return;
  uv_timer_stop(&stuck->timer); /* it may be due now */
  uv_close((uv_handle_t *)&stuck->timer, free_stuck);
}
