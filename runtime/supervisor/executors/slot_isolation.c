/* The part of slot.h about jobs that must run alone, because processes died while they had them; see deaths.h. */
#include "clock.h"
#include "deaths.h"
#include "log.h"
#include "slot_state.h"

/* The jobs of an executor may take this long to end before it is replaced, so that its place is free for such jobs. */
enum { WAIT_MS = 1000 };

/* After jobs ran alone, other jobs get REST_FACTOR times as long, at most REST_MOST_MS. */
enum { REST_FACTOR = 3, REST_MOST_MS = 5000 };

static bool has_other_jobs(const struct slot *slot) {
  return !slot_ahead_is_at_rest(slot) || slot_has_leased(slot);
}

static void on_wait_over(uv_timer_t *timer) {
  struct slot *slot = timer->data;
  if (slot->state != SLOT_READY || slot->stage >= SLOT_FINISHING || slot->isolation != ISOLATION_WAITING)
    return;
  slot_end_isolation(slot);
  slot->start.isolation->replaced = true;
  log_debug("an executor is replaced, because jobs that must run alone wait for it", LOG_I("executor", slot->number));
  slot_retire(slot);
}

static void begin(struct slot *slot, enum slot_isolation isolation) {
  slot->isolation = isolation;
  slot->start.isolation->slot = slot;
  if (isolation == ISOLATION_WAITING)
    uv_timer_start(&slot->timer, on_wait_over, WAIT_MS, 0);
  if (isolation == ISOLATION_RUNNING)
    slot->isolated_ms = clock_ms();
}

void slot_end_isolation(struct slot *slot) {
  struct isolation *isolation = slot->start.isolation;
  if (slot->isolation == ISOLATION_NONE)
    return;
  if (slot->isolation == ISOLATION_RUNNING) {
    int64_t now_ms = clock_ms(), rest_ms = REST_FACTOR * (now_ms - slot->isolated_ms);
    isolation->rest_until_ms = now_ms + (rest_ms < REST_MOST_MS ? rest_ms : REST_MOST_MS);
  }
  if (slot->isolation == ISOLATION_WAITING && slot->state == SLOT_READY)
    uv_timer_stop(&slot->timer);
  slot->isolation = ISOLATION_NONE;
  isolation->slot = NULL;
}

void slot_take_isolation(struct slot *slot) {
  if (!slot->start.isolation->replaced || slot->start.isolation->slot)
    return;
  slot->start.isolation->replaced = false;
  begin(slot, ISOLATION_CLAIMING);
}

int32_t slot_isolation_capacity(struct slot *slot, const struct hold *hold) {
  if (slot->isolation == ISOLATION_NONE)
    return INT32_MAX;
  if (hold != slot->holds[SLOT_FIRST_HOLD] || has_other_jobs(slot))
    return 0;
  if (slot->isolation == ISOLATION_RUNNING) { /* all of them have ended */
    slot_end_isolation(slot);
    return INT32_MAX;
  }
  if (slot->isolation == ISOLATION_WAITING) {
    uv_timer_stop(&slot->timer);
    begin(slot, ISOLATION_CLAIMING);
  }
  return DEATHS_GROUP_MOST;
}

enum claim_deaths slot_claims_deaths(const struct slot *slot, const struct hold *hold) {
  const struct isolation *isolation = slot->start.isolation;
  if (slot->isolation == ISOLATION_CLAIMING)
    return CLAIM_DEATHS_MANY;
  bool free = !isolation->slot && !isolation->replaced && clock_ms() >= isolation->rest_until_ms;
  return free && hold == slot->holds[SLOT_FIRST_HOLD] ? CLAIM_DEATHS_ANY : CLAIM_DEATHS_FEW;
}

bool slot_may_run_alone(struct slot *slot, const struct hold *hold) {
  if (hold != slot->holds[SLOT_FIRST_HOLD] || (slot->start.isolation->slot && slot->start.isolation->slot != slot))
    return false;
  bool now = !has_other_jobs(slot);
  begin(slot, now ? ISOLATION_RUNNING : ISOLATION_WAITING);
  return now;
}

void slot_turned_away(struct slot *slot) {
  if (!slot->start.isolation->slot)
    begin(slot, ISOLATION_WAITING);
}
