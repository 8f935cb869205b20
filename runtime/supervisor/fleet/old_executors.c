#include "old_executors.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "duration.h"
#include "log.h"
#include "slot_activity.h"

enum { FIRST_MS = 10000, AGAIN_MS = 60000 };

/* At most so many jobs are named in a line. */
enum { NAMED_MOST = 10, NAMED_SIZE = 1024 };

/* Whether another version has taken the place of the slot, whose executor still runs. Then `activity` is what it does.
 */
static bool is_old(const struct slot_list *slots, const struct slot *slot, struct slot_activity *activity) {
  struct slot_activity current;
  if (!slot_is_replaced(slot) || slot_list_is_in_place(slots, slot))
    return false;
  slot_get_activity(slot, activity);
  slot_get_activity(slots->items[slot_number(slot) - 1], &current);
  return activity->pid != 0 && strcmp(activity->version, current.version) != 0;
}

int old_executors_count(const struct slot_list *slots) {
  struct slot_activity activity;
  int count = 0;
  for (int i = 0; i < slots->count; i++)
    count += is_old(slots, slots->items[i], &activity);
  return count;
}

static void log_them(const struct old_executors *old, const struct slot_list *slots, int count) {
  char jobs[NAMED_SIZE] = "", ran[DURATION_TEXT_SIZE];
  size_t length = 0;
  int named = 0, in_flight = 0;
  for (int i = 0; i < slots->count; i++) {
    struct slot_activity activity;
    if (!is_old(slots, slots->items[i], &activity))
      continue;
    in_flight += activity.in_flight;
    if (!activity.has_job || named++ >= NAMED_MOST || length >= sizeof jobs)
      continue;
    duration_format(activity.job_ms / 1000 * 1000, ran);
    length += (size_t)snprintf(jobs + length, sizeof jobs - length, "%s%lld (%.60s, for %s)", length > 0 ? ", " : "",
                               (long long)activity.job, activity.queue ? activity.queue : "?", ran);
  }
  log_info("executors with an older version of the script still run jobs: each ends with its last job",
           LOG_I("executors", count), LOG_I("in_flight", in_flight), LOG_T("jobs", jobs),
           LOG_US("for", (clock_ms() - old->since_ms) * 1000));
}

bool old_executors_look(struct old_executors *old, const struct slot_list *slots) {
  int count = old_executors_count(slots);
  bool before = old->seen;
  int64_t now_ms = clock_ms();
  old->seen = count > 0;
  if (count == 0)
    return before;
  if (!before) {
    old->since_ms = now_ms;
    old->log_ms = now_ms + FIRST_MS;
  }
  if (now_ms >= old->log_ms) {
    log_them(old, slots, count);
    old->log_ms = now_ms + AGAIN_MS;
  }
  return !before;
}
