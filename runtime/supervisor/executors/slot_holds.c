/* The part of slot.h that answers the questions of the slot's holds, and takes their reports. */
#include "capacity.h"
#include "clock.h"
#include "slot_state.h"

/* A hold that claims ahead is closed when there were no jobs for it for this long. */
enum { AHEAD_IDLE_MS = 10000 };

/* A handler that has not waited for this long keeps its executor from other jobs. */
enum { STUCK_MS = 10 };

bool slot_has_leased(const struct slot *slot) {
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

static int32_t on_hold_capacity(void *owner, const struct hold *hold, int32_t *of_queues) {
  struct slot *slot = owner;
  int32_t most = slot_isolation_capacity(slot, hold);
  if (most == 0)
    return 0;
  if ((slot_has_leased(slot) && child_busy_ms(slot->child) >= STUCK_MS) || has_unacknowledged(slot))
    return 0; /* a job takes long, and its end is not known */
  capacity_find(slot->holds, slot->queues, slot->queue_count, slot->start.options, of_queues);
  return most;
}

static enum claim_deaths on_hold_claims_deaths(void *owner, const struct hold *hold) {
  return slot_claims_deaths(owner, hold);
}

static bool on_hold_may_run_alone(void *owner, const struct hold *hold) {
  return slot_may_run_alone(owner, hold);
}

static void on_hold_turned_away(void *owner, const struct hold *hold) {
  (void)hold;
  slot_turned_away(owner);
}

static void on_hold_found(void *owner, const struct hold *hold) {
  struct slot *slot = owner;
  (void)hold;
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
  bool isolated = slot->isolation != ISOLATION_NONE;
  slot_end_isolation(slot);
  if (!isolated || !hold_wake(slot->holds[SLOT_FIRST_HOLD], false)) /* there were none to run alone: now all others */
    wakeup_slept(slot->start.wakeup, idle);
}

static void on_hold_rescheduled(void *owner) {
  struct slot *slot = owner;
  wakeup_rescheduled(slot->start.wakeup);
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
    .claims_deaths = on_hold_claims_deaths,
    .may_run_alone = on_hold_may_run_alone,
    .turned_away = on_hold_turned_away,
    .blocked = on_hold_blocked,
    .found = on_hold_found,
    .more = on_hold_more,
    .slept = on_hold_slept,
    .rescheduled = on_hold_rescheduled,
    .backed_off = on_hold_backed_off,
    .rested = on_hold_rested,
};
