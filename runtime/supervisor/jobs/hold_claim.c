/* The part of hold.h that decides when the hold claims, and handles claims that find no job. */
#include "hold_state.h"

#include "claim_fleet.h"
#include "clock.h"

bool hold_may_claim(struct hold *hold) {
  const struct hold_start *start = &hold->start;
  if (hold->stopping || !child_is_ready(hold->child) || claim_gate_is_shut(start->gate))
    return false;
  int32_t capacity = start->events->capacity(start->owner, hold, hold->claim.capacity);
  hold->no_capacity = capacity == 0;
  hold->claim.deaths = start->events->claims_deaths(start->owner, hold);
  if (hold->no_capacity)
    hold_start_checks(hold);
  if (capacity == 0 || !claim_choose(&hold->claim, start->ahead ? CLAIM_AHEAD : CLAIM_ANY, capacity))
    return false;
  if (hold->claim.most_jobs > 1 || start->options->executors == 1)
    return claim_gate_enter(start->gate, hold);
  claim_gate_withdraw(start->gate, hold); /* a claim of one job does not have to wait */
  return true;
}

static void lock_sweep(struct hold *hold) {
  struct parameters parameters = {0};
  claim_sweep_lock_parameters(&hold->claim, &parameters);
  connection_send(hold->connection, STATEMENT_LOCK_SWEEP, &parameters);
  parameters_free(&parameters);
}

void hold_send_claim(struct hold *hold, bool sweep) {
  struct parameters parameters = {0}, look = {0};
  if (sweep) {
    sweep_begin(hold->start.sweep, clock_ms());
    claim_sweep(&hold->claim);
  }
  hold->ring = hold->start.sweep->ring;
  claim_parameters(&hold->claim, sweep_wait_ms(hold->start.sweep, clock_ms()) == 0, &parameters);
  hold_add_unwritten(&parameters);
  enum statement statement = claim_fleet_parameters(&hold->claim, &parameters);
  bool looks = claim_look(&hold->claim, &look);
  connection_begin(hold->connection);
  hold_ask_suppressor(hold);
  if (hold->claim.locks_sweep)
    lock_sweep(hold);
  connection_send(hold->connection, STATEMENT_LOCK_TABLE, NULL);
  if (hold->claim.sweeps_any)
    connection_ask_answer(hold->connection);
  connection_send(hold->connection, statement, &parameters);
  if (looks)
    connection_send(hold->connection, STATEMENT_FIND_DUE, &look);
  parameters_free(&look);
  parameters_free(&parameters);
  hold_set_state(hold, HOLD_CLAIMING);
}

bool hold_wake(struct hold *hold, bool sweep) {
  bool has_outcomes = hold_has_ended_leased(hold) || rescue_is_due(&hold->rescue) || refused_is_due(&hold->refused);
  if (hold->state != HOLD_IDLE || has_outcomes || hold_error_is_waiting(&hold->error))
    return false;
  bool waits = claim_gate_is_waiting(hold->start.gate, hold);
  hold->sweep_at_gate = sweep || (waits && hold->sweep_at_gate);
  if (waits)
    return true;
  if (!hold_may_claim(hold))
    return claim_gate_is_waiting(hold->start.gate, hold);
  hold_send_claim(hold, sweep);
  connection_sync(hold->connection);
  return true;
}

bool hold_claim_through_gate(struct hold *hold) {
  if (hold_wake(hold, hold->sweep_at_gate))
    return true;
  if (hold->state == HOLD_IDLE)
    hold_rest(hold);
  return false;
}

void hold_claim_ahead(struct hold *hold) {
  if (hold->state == HOLD_DOWN && claim_choose(&hold->claim, CLAIM_AHEAD, INT32_MAX))
    connection_open(hold->connection);
  hold_wake(hold, false);
}

bool hold_close(struct hold *hold) {
  if (hold_is_asleep(hold) && !hold_error_is_waiting(&hold->error)) {
    connection_close(hold->connection, "it has not claimed ahead for a while");
    hold_set_state(hold, HOLD_DOWN);
  }
  return hold->state == HOLD_DOWN;
}

/* ── the answer to a claim ── */

void hold_take_sweep_lock(struct hold *hold, const PGresult *result) {
  bool locked = *PQgetvalue(result, 0, 0);
  claim_take_sweep_lock(&hold->claim, locked);
  if (!locked)
    sweep_deny(hold->start.sweep, clock_ms());
}

/* The time of a wait for the table is no cost of a sweep. */
void hold_take_lock(struct hold *hold) {
  if (hold->claim.sweeps_any)
    hold->claim.sent_ms = clock_ms();
}

void hold_add_claim_cost(struct hold *hold, bool swept) {
  int64_t now_ms = clock_ms();
  sweep_saw(hold->start.sweep, now_ms, now_ms - hold->claim.sent_ms, swept);
}

/* Jobs of queues that were paused while the claim was under way go back. */
static void spare_paused(struct hold *hold) {
  int64_t now_ms = clock_ms();
  for (uint32_t i = 0; i < hold->claim.asked_count; i++)
    if (queue_is_paused(hold->claim.asked[i], now_ms))
      batch_release(&hold->batch, hold->claim.asked[i], false);
}

/* The same, after jobs were sent to the executor. */
void hold_recall_paused(struct hold *hold) {
  int64_t now_ms = clock_ms();
  for (uint32_t i = 0; i < hold->claim.asked_count; i++)
    if (queue_is_paused(hold->claim.asked[i], now_ms))
      hold_recall(hold, hold->claim.asked[i]);
}

void hold_take_claim(struct hold *hold, const PGresult *result) {
  claim_take(&hold->claim, result, hold->start.frontier);
  if (PQntuples(result) == 0)
    return;
  batch_take(&hold->batch, result, hold->claim.asked, hold->claim.asked_index, hold->claim.transactional);
  hold_spare_jobs_in_hand(hold);
  spare_paused(hold);
  batch_send(&hold->batch, result, &hold->out);
}

/* The claim found nothing: after a sweep the hold asks when the next job falls due; then the transaction ends. */
static void close_empty(struct hold *hold) {
  bool complete = hold->claim.complete && !hold->claim.again;
  hold->idle = (struct idle_info){.complete = complete,
                                  .swept = complete && hold->claim.sweeps_all && !hold->start.ahead,
                                  .denied = hold->claim.denied,
                                  .wait_ms = -1,
                                  .ring = hold->ring};
  hold_set_state(hold, HOLD_CLOSING_EMPTY);
  if (hold->idle.swept && !hold->stopping) {
    struct parameters parameters = {0};
    idle_info_parameters(&hold->claim, &parameters);
    hold->claim.sent_ms = clock_ms();
    connection_send(hold->connection, STATEMENT_NEXT_DUE, &parameters);
    parameters_free(&parameters);
  }
  connection_send(hold->connection, STATEMENT_COMMIT, NULL);
  connection_sync(hold->connection);
}

/* Whether the outcome of each job could be written, as far as the worker knows. The claim was sent before it could know
 * that an earlier outcome was not. Of a queue whose last outcome could not be written, one job may run. */
static bool may_be_settled(const struct hold *hold) {
  int doubtful = 0;
  for (int i = 0; i < hold->batch.count; i++)
    doubtful += hold->batch.jobs[i].queue->refused_in_a_row > 0;
  return (doubtful < 2 || hold->batch.runs_alone) && hold->rescue.jobs.count == 0 &&
         !claim_gate_is_shut(hold->start.gate);
}

/* Whether the claim's jobs may go to the executor: it was not replaced, it takes jobs, their outcomes can be written,
 * and it has no other jobs if these must run alone. */
static bool may_run(struct hold *hold) {
  if (hold->stopping || hold->claim.stale || !child_is_ready(hold->child) || !may_be_settled(hold))
    return false;
  return !hold->batch.runs_alone || hold->start.events->may_run_alone(hold->start.owner, hold);
}

void hold_end_claim(struct hold *hold) {
  hold_add_claim_cost(hold, hold->claim.sweeps_any && hold->claim.deaths != CLAIM_DEATHS_MANY);
  claim_gate_leave(hold->start.gate, hold);
  hold->start.counts->claims++;
  hold->start.counts->claimed_jobs += hold->batch.count;
  if (hold->batch.count == 0) {
    close_empty(hold);
    return;
  }
  hold_set_state(hold, HOLD_RUNNING);
  hold->running_since_ms = clock_ms();
  hold->large_job = -1;
  if (may_run(hold)) {
    if (hold->batch.has_more_to_run_alone && !hold->batch.runs_alone)
      hold->start.events->turned_away(hold->start.owner, hold);
    hold_dispatch(hold);
    hold_recall_paused(hold);
    hold->start.events->found(hold->start.owner, hold);
    if (hold->claim.full)
      hold->start.events->more(hold->start.owner, hold);
  } else {
    buffer_free(&hold->out);
    batch_release(&hold->batch, NULL, false);
  }
  hold_go_on(hold);
}

void hold_rest(struct hold *hold) {
  if (hold->rescheduled)
    hold->start.events->rescheduled(hold->start.owner);
  hold->rescheduled = false;
  if (!hold->stopping && child_is_ready(hold->child) && !hold->no_capacity)
    hold->start.events->slept(hold->start.owner, hold, &hold->idle);
  hold->idle = (struct idle_info){.wait_ms = -1};
  hold->start.events->rested(hold->start.owner, hold);
}
