#include "slot_activity.h"

#include "clock.h"
#include "job.h"
#include "slot_state.h"

/* Looks for the job among those of the holds. */
static const struct job *find(const struct slot *slot, int64_t id) {
  const struct job *job = NULL;
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR && !job; lane++)
    job = slot->holds[lane] ? hold_find(slot->holds[lane], id) : NULL;
  return job;
}

/* Takes the job that has been leased for longest. */
static void take_oldest(const struct slot *slot, struct slot_activity *activity) {
  int64_t oldest_ms = INT64_MAX;
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++) {
    int64_t since_ms;
    const struct job *job = slot->holds[lane] ? hold_oldest_leased(slot->holds[lane], &since_ms) : NULL;
    if (!job || since_ms >= oldest_ms)
      continue;
    oldest_ms = since_ms;
    activity->has_job = true;
    activity->job = job->id;
    activity->queue = job->queue->name;
    activity->job_ms = clock_ms() - since_ms;
  }
}

void slot_get_activity(const struct slot *slot, struct slot_activity *activity) {
  *activity = (struct slot_activity){.pid = child_pid(slot->child), .version = slot->version};
  if (activity->pid == 0)
    return;
  activity->busy_ms = child_busy_ms(slot->child);
  activity->runs = activity->has_job = child_current(slot->child, &activity->job, &activity->job_ms);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    activity->in_flight += slot->holds[lane] ? hold_count_begun(slot->holds[lane]) : 0;
  const struct job *job = activity->runs ? find(slot, activity->job) : NULL;
  if (job)
    activity->queue = job->queue->name;
  else if (!activity->runs)
    take_oldest(slot, activity);
}

int slot_count_jobs(const struct slot *slot, const struct queue *queue) {
  int count = 0;
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    count += slot->holds[lane] ? hold_count_jobs(slot->holds[lane], queue) : 0;
  return count;
}

int slot_count_holding(const struct slot *slot) {
  int count = 0;
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    count += slot->holds[lane] && hold_is_holding(slot->holds[lane]);
  return count;
}

int64_t slot_memory(const struct slot *slot) {
  return child_pid(slot->child) ? child_memory(slot->child) : 0;
}
