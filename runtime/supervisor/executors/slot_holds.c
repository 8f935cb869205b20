/* The part of slot.h that answers the questions of the slot's holds, and takes their reports. */
#include "capacity.h"
#include "clock.h"
#include "slot_state.h"

/* A hold that claims ahead is closed when there were no jobs for it for this long. */
enum { AHEAD_IDLE_MS = 10000 };

/* A handler that has not waited for this long keeps its executor from other jobs. */
enum { STUCK_MS = 10 };

/* After a worker died, another job begins beside waiting jobs only when they have waited for this long. */
enum { CAREFUL_GAP_MS = 500 };

/* No claim brings more suspects than this. */
enum { SUSPECT_GROUP_MOST = 1000 };

static bool has_leased(const struct slot *slot) {
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    if (hold_has_leased(slot->holds[lane]))
      return true;
  return false;
}

static bool has_unacknowledged(const struct slot *slot) {
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    if (hold_has_unacknowledged(slot->holds[lane]))
      return true;
  return false;
}

/*
 * While suspects are tried, only the first hold claims, and only when the executor has no other job. While the worker
 * is careful, only the first hold claims, one job at a time: when the jobs that have begun have ended, or have waited
 * for a while without harm.
 */
static int32_t on_hold_capacity(void *owner, const struct hold *hold, int32_t *of_queues) {
  const struct slot *slot = owner;
  bool careful = clock_ms() < slot->careful_until_ms, leased = has_leased(slot);
  if ((slot->isolates || careful) && hold != slot->holds[SLOT_FIRST_HOLD])
    return 0;
  if (slot->isolates && (!slot_ahead_is_at_rest(slot) || leased))
    return 0;
  if (careful && !leased && !slot_ahead_is_at_rest(slot))
    return 0;
  if (careful && leased && (!child_is_all_waiting(slot->child) || clock_ms() - slot->found_ms < CAREFUL_GAP_MS))
    return 0;
  if ((leased && child_busy_ms(slot->child) >= STUCK_MS) || has_unacknowledged(slot))
    return 0; /* a job takes long, and its end is not known */
  capacity_find(slot->holds, slot->queues, slot->queue_count, slot->start.options, of_queues);
  return careful ? 1 : slot->isolates ? *slot->start.suspect_group_size : INT32_MAX;
}

static int on_hold_suspect_group_size(void *owner) {
  const struct slot *slot = owner;
  return *slot->start.suspect_group_size;
}

static bool on_hold_may_run_suspects(void *owner, const struct hold *hold) {
  struct slot *slot = owner;
  slot->isolates = true;
  return hold == slot->holds[SLOT_FIRST_HOLD] && slot_ahead_is_at_rest(slot) && !has_leased(slot);
}

static void on_hold_found(void *owner, const struct hold *hold) {
  struct slot *slot = owner;
  slot->found_ms = clock_ms();
  if (hold == slot->holds[SLOT_FIRST_HOLD]) {
    int *size = slot->start.suspect_group_size;
    bool suspects = hold_runs_suspects(hold);
    if (suspects && slot->last_were_suspects) /* the last group was harmless: the next one may be larger */
      *size = *size < SUSPECT_GROUP_MOST / 2 ? *size * 2 : SUSPECT_GROUP_MOST;
    slot->last_were_suspects = suspects;
    slot->isolates = slot->isolates && suspects;
  }
  wakeup_found(slot->start.wakeup);
}

static void on_hold_blocked(void *owner, const struct hold *hold) {
  struct slot *slot = owner;
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    if (slot->holds[lane] != hold)
      hold_give_back(slot->holds[lane]);
}

static void on_idle(uv_timer_t *timer) {
  struct slot *slot = timer->data;
  bool closed = true;
  for (int lane = SLOT_AHEAD_HOLD; lane < HOLDS_PER_EXECUTOR; lane++)
    closed = hold_close(slot->holds[lane]) && closed;
  if (closed)
    uv_timer_stop(timer);
}

static void on_hold_more(void *owner, const struct hold *hold) {
  struct slot *slot = owner;
  wakeup_more(slot->start.wakeup);
  if (hold != slot->holds[SLOT_FIRST_HOLD])
    return;
  for (int lane = SLOT_AHEAD_HOLD; lane < HOLDS_PER_EXECUTOR; lane++)
    hold_claim_ahead(slot->holds[lane]);
  uv_timer_start(&slot->idle_timer, on_idle, AHEAD_IDLE_MS, AHEAD_IDLE_MS);
}

static void on_hold_slept(void *owner, const struct hold *hold, const struct idle_info *idle) {
  struct slot *slot = owner;
  if (hold != slot->holds[SLOT_FIRST_HOLD])
    return;
  slot->isolates = slot->isolates && !idle->complete;
  wakeup_slept(slot->start.wakeup, idle);
}

static void on_hold_backed_off(void *owner, struct queue *queue) {
  struct slot *slot = owner;
  slot->start.events->backed_off(slot->start.owner, queue);
}

static void on_hold_rested(void *owner, const struct hold *hold) {
  struct slot *slot = owner;
  if (slot->state == SLOT_RETIRING && slot_is_at_rest(slot))
    slot_let_exit(slot);
  slot->start.events->rested(slot->start.owner);
  if (hold != slot->holds[SLOT_FIRST_HOLD]) /* the first hold may have waited for this one */
    hold_wake(slot->holds[SLOT_FIRST_HOLD], false);
}

const struct hold_events slot_hold_events = {
    .capacity = on_hold_capacity,
    .may_run_suspects = on_hold_may_run_suspects,
    .suspect_group_size = on_hold_suspect_group_size,
    .blocked = on_hold_blocked,
    .found = on_hold_found,
    .more = on_hold_more,
    .slept = on_hold_slept,
    .backed_off = on_hold_backed_off,
    .rested = on_hold_rested,
};
