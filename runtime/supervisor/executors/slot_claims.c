/* The half of slot.h that is about claims: what its holds ask, and what they say. */
#include "capacity.h"
#include "clock.h"
#include "slot_state.h"

/* A hold that claims ahead is closed when it has not been of use for so long. */
enum { AHEAD_IDLE_MS = 10000 };

/* A handler that has not waited for so long keeps its executor from others. */
enum { STUCK_MS = 10 };

/* In careful times a job begins beside others that wait when they have done so for this long. */
enum { CAREFUL_GAP_MS = 500 };

/* More suspects need not run together: no claim brings more. */
enum { TOGETHER_MOST = 1000 };

static bool has_leased(const struct slot *slot) {
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    if (hold_has_leased(slot->holds[lane]))
      return true;
  return false;
}

static bool is_owed(const struct slot *slot) {
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    if (hold_is_owed(slot->holds[lane]))
      return true;
  return false;
}

/* In careful times: what has begun has ended, or has waited for a while and done no harm. */
static bool is_harmless(const struct slot *slot, bool leased) {
  if (!leased)
    return slot_others_rest(slot);
  return child_is_parked(slot->child) && clock_ms() - slot->found_ms >= CAREFUL_GAP_MS;
}

/* In careful times jobs come one by one, while suspects are about a few at a time; and none ahead of its time. */
static int32_t on_hold_room(void *owner, const struct hold *hold, int32_t *of_queues) {
  const struct slot *slot = owner;
  bool careful = clock_ms() < slot->careful_until_ms, leased = has_leased(slot);
  if ((slot->alone || careful) && hold != slot->holds[FIRST])
    return 0;
  if (slot->alone && (!slot_others_rest(slot) || leased))
    return 0;
  if (careful && !is_harmless(slot, leased))
    return 0;
  if ((leased && child_busy_ms(slot->child) >= STUCK_MS) || is_owed(slot))
    return 0; /* a job takes long: nobody knows how long */
  capacity_find(slot->holds, slot->queues, slot->queue_count, slot->start.options, of_queues);
  return careful ? 1 : slot->alone ? *slot->start.together : INT32_MAX;
}

static int on_hold_together(void *owner) {
  const struct slot *slot = owner;
  return *slot->start.together;
}

static bool on_hold_alone(void *owner, const struct hold *hold) {
  struct slot *slot = owner;
  slot->alone = true;
  return hold == slot->holds[FIRST] && slot_others_rest(slot) && !has_leased(slot);
}

/* Suspects come in groups: one that has done no harm is followed by a larger one. */
static void see_group(struct slot *slot, bool is_group) {
  int *together = slot->start.together;
  if (is_group && slot->has_group)
    *together = *together < TOGETHER_MOST / 2 ? *together * 2 : TOGETHER_MOST;
  slot->has_group = is_group;
  if (!is_group)
    slot->alone = false;
}

static void on_hold_found(void *owner, const struct hold *hold) {
  struct slot *slot = owner;
  slot->found_ms = clock_ms();
  if (hold == slot->holds[FIRST])
    see_group(slot, hold_runs_alone(hold));
  slot->start.events->found(slot->start.owner);
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
  for (int lane = AHEAD; lane < HOLDS_PER_EXECUTOR; lane++)
    closed = hold_close(slot->holds[lane]) && closed;
  if (closed)
    uv_timer_stop(timer);
}

static void on_hold_more(void *owner, const struct hold *hold) {
  struct slot *slot = owner;
  slot->start.events->more(slot->start.owner);
  if (hold != slot->holds[FIRST])
    return;
  for (int lane = AHEAD; lane < HOLDS_PER_EXECUTOR; lane++)
    hold_claim_ahead(slot->holds[lane]);
  uv_timer_start(&slot->idle, on_idle, AHEAD_IDLE_MS, AHEAD_IDLE_MS);
}

static void on_hold_slept(void *owner, const struct hold *hold, const struct hold_look *look) {
  struct slot *slot = owner;
  if (hold != slot->holds[FIRST])
    return;
  slot->alone = slot->alone && !look->complete;
  slot->start.events->slept(slot->start.owner, look);
}

static void on_hold_backed_off(void *owner, struct queue *queue) {
  struct slot *slot = owner;
  slot->start.events->backed_off(slot->start.owner, queue);
}

static void on_hold_rested(void *owner, const struct hold *hold) {
  struct slot *slot = owner;
  if (slot->retiring && slot_is_at_rest(slot))
    slot_let_go(slot);
  slot->start.events->rested(slot->start.owner);
  if (hold != slot->holds[FIRST]) /* it may have waited for the other */
    hold_wake(slot->holds[FIRST], false);
}

const struct hold_events slot_hold_events = {on_hold_room,    on_hold_alone,      on_hold_together,
                                             on_hold_blocked, on_hold_found,      on_hold_more,
                                             on_hold_slept,   on_hold_backed_off, on_hold_rested};
