#include "hold_state.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "memory.h"

/* The server ends a session whose transaction has been idle for this long beyond the hold limit. */
enum { IDLE_MARGIN_MS = 2000 };

static void on_up(void *owner);
static void on_down(void *owner, const char *reason);
static void on_result(void *owner, enum statement statement, PGresult *result);
static void on_synced(void *owner);

static const struct connection_events connection_events = {on_up, on_down, on_result, on_synced, NULL};

struct hold *hold_new(const char *name, const struct hold_start *start) {
  struct hold *hold = memory_new(sizeof *hold);
  const struct options *options = start->options;
  *hold = (struct hold){.name = memory_text(name), .start = *start, .child = start->child};
  hold->connection = connection_new(start->loop, name, options->db, options->hold_limit_ms + IDLE_MARGIN_MS,
                                    start->mode, &connection_events, hold);
  hold_error_init(&hold->error, start->loop, hold);
  hold->batch.number = start->lane;
  hold->look.wait_ms = -1;
  uv_timer_init(start->loop, &hold->watch);
  hold->watch.data = hold;
  return hold;
}

static void free_hold(uv_handle_t *watch) {
  struct hold *hold = watch->data;
  batch_clear(&hold->batch);
  batch_clear(&hold->settling);
  rescue_free(&hold->rescue);
  lease_list_free(&hold->leased);
  claim_free(&hold->claim);
  buffer_free(&hold->out);
  free(hold->name);
  free(hold);
}

static void close_watch(uv_handle_t *timer) {
  struct hold *hold = timer->data;
  uv_close((uv_handle_t *)&hold->watch, free_hold);
}

void hold_free(struct hold *hold) {
  if (!hold)
    return;
  uv_timer_stop(&hold->watch); /* it may be due at this moment, and is closed later */
  claim_gate_withdraw(hold->start.gate, hold);
  connection_free(hold->connection);
  hold_error_close(&hold->error, close_watch); /* one after the other: the last one takes the memory along */
}

void hold_serve(struct hold *hold, struct queue *const *queues, uint32_t count) {
  claim_serve(&hold->claim, queues, count);
}

void hold_open(struct hold *hold) {
  connection_open(hold->connection);
}

void hold_be_careful(struct hold *hold, int64_t until_ms) {
  hold->careful_until_ms = until_ms;
}

static bool has_jobs(const struct hold *hold) {
  return hold->leased.count > 0 || hold->rescue.jobs.count > 0;
}

/* Outcomes that are to be written before anything else. */
static bool has_outcomes(const struct hold *hold) {
  return lease_list_ended(&hold->leased) > 0 || hold->rescue.jobs.count > 0;
}

int hold_count_leased(const struct hold *hold) {
  return lease_list_busy(&hold->leased);
}

int hold_count_begun(const struct hold *hold) {
  int count = lease_list_busy(&hold->leased);
  uint32_t begun = child_begun(hold->child, hold->batch.number);
  for (int i = 0; i < hold->batch.count; i++)
    count += hold->batch.jobs[i].outcome == OUTCOME_NONE && hold->batch.jobs[i].position > 0 &&
             hold->batch.jobs[i].position <= begun;
  return count;
}

void hold_count_running(const struct hold *hold, int32_t *counts, uint32_t queue_count) {
  for (int i = 0; i < hold->batch.count; i++)
    if (hold->batch.jobs[i].outcome == OUTCOME_NONE && hold->batch.jobs[i].queue_index < queue_count)
      counts[hold->batch.jobs[i].queue_index]++;
  for (int i = 0; i < hold->leased.count; i++)
    if (hold->leased.items[i].job.outcome == OUTCOME_NONE && hold->leased.items[i].job.queue_index < queue_count)
      counts[hold->leased.items[i].job.queue_index]++;
}

bool hold_is_asleep(const struct hold *hold) {
  return hold->state == HOLD_IDLE && !has_jobs(hold) && !hold->waits;
}

bool hold_is_at_rest(const struct hold *hold) {
  return (hold->state == HOLD_IDLE || hold->state == HOLD_DOWN) && !has_jobs(hold);
}

/* ── acts: what is sent ── */

static void send_statement(void *context, enum statement statement, const struct parameters *parameters) {
  struct hold *hold = context;
  connection_send(hold->connection, statement, parameters);
}

bool hold_is_careful(const struct hold *hold) {
  return clock_ms() < hold->careful_until_ms;
}

bool hold_runs_alone(const struct hold *hold) {
  return hold->state == HOLD_RUNNING && hold->batch.alone;
}

bool hold_is_owed(const struct hold *hold) {
  return hold->owed > 0;
}

bool hold_has_leased(const struct hold *hold) {
  return lease_list_busy(&hold->leased) > 0;
}

/* The executor has room for jobs, and there is a queue to ask. Chooses the queues. */
static bool may_claim(struct hold *hold) {
  const struct hold_start *start = &hold->start;
  if (hold->stopping || !child_is_ready(hold->child))
    return false;
  int32_t room = start->events->room(start->owner, hold, hold->claim.room);
  hold->refused = room == 0;
  if (hold->refused)
    hold_start_watch(hold);
  if (room == 0 || !claim_choose(&hold->claim, start->ahead ? CLAIM_AHEAD : CLAIM_ANY, room))
    return false;
  bool needs_turn = hold->claim.most_jobs > 1 || start->options->executors == 1;
  hold->waits = needs_turn && !claim_gate_enter(start->gate, hold);
  return !hold->waits;
}

static void send_claim(struct hold *hold, bool sweep) {
  struct parameters parameters = {0};
  if (sweep) {
    sweep_begin(hold->start.sweep, clock_ms());
    claim_sweep(&hold->claim);
  }
  claim_parameters(&hold->claim, &parameters);
  connection_begin(hold->connection);
  connection_send(hold->connection, STATEMENT_CLAIM, &parameters);
  parameters_free(&parameters);
  hold->state = HOLD_CLAIMING;
}

/* The claim found nothing, and nothing lies below the floors: what else is known before one sleeps? */
static void send_look(struct hold *hold) {
  struct parameters parameters = {0};
  look_parameters(&hold->claim, &parameters);
  hold->claim.sent_ms = clock_ms();
  connection_send(hold->connection, STATEMENT_LOOK, &parameters);
  parameters_free(&parameters);
}

/* In a transaction: writes all outcomes that are known, commits, and claims again in the same round trip. */
void hold_settle(struct hold *hold) {
  batch_learn(&hold->batch);
  batch_sweep_next(&hold->batch);
  batch_move(&hold->settling, &hold->batch);
  if (!hold->rescue.singly)
    lease_list_collect(&hold->leased, &hold->settling);
  if (!connection_is_unicode(hold->connection))
    batch_make_ascii(&hold->settling);
  batch_settle(&hold->settling, hold->start.options->lease_ms, send_statement, hold);
  connection_send(hold->connection, STATEMENT_COMMIT, NULL);
  /* What goes back lies behind a job that takes long, which may be another hold's: what that gives back comes first. */
  bool more = !hold->released && (!hold->start.ahead || hold->claim.full);
  if (hold->rescue.jobs.count == 0 && hold->out.length == 0 && more && may_claim(hold))
    send_claim(hold, sweep_is_wanted(hold->start.sweep, clock_ms()));
  else
    hold->state = HOLD_CLOSING;
  connection_sync(hold->connection);
}

/* The claim found nothing: after a sweep asks how long one may sleep; then the transaction ends. */
static void close_and_look(struct hold *hold) {
  hold->nothing = true;
  hold->look = (struct hold_look){
      .complete = hold->claim.complete, .swept = hold->claim.sweep && !hold->start.ahead, .wait_ms = -1};
  hold->state = HOLD_CLOSING;
  if (hold->look.swept && !hold->stopping)
    send_look(hold);
  connection_send(hold->connection, STATEMENT_COMMIT, NULL);
  connection_sync(hold->connection);
}

static void lose_lease(void *context, int64_t id) {
  hold_lease_lost(context, id);
}

/* Locks the jobs to be rescued where nobody else has had them since. */
static void lock_rescue(struct hold *hold) {
  struct parameters parameters = {0};
  rescue_next(&hold->rescue, &hold->settling, &parameters);
  hold->state = HOLD_LOCKING;
  connection_begin(hold->connection);
  connection_send(hold->connection, STATEMENT_RELOCK, &parameters);
  connection_sync(hold->connection);
  parameters_free(&parameters);
}

/* Nothing to do: somebody has to know when to look again. */
static void tell_rest(struct hold *hold) {
  if (!hold->stopping && child_is_ready(hold->child) && !hold->refused)
    hold->start.events->slept(hold->start.owner, hold, &hold->look);
  hold->look = (struct hold_look){.wait_ms = -1};
  hold->start.events->rested(hold->start.owner, hold);
}

/* Idle: whatever is to be done next. */
void hold_proceed(struct hold *hold) {
  if (hold->state != HOLD_IDLE || hold_error_is_waiting(&hold->error))
    return;
  if (hold->rescue.jobs.count > 0) {
    lock_rescue(hold);
  } else if (lease_list_ended(&hold->leased) > 0) {
    connection_begin(hold->connection);
    hold_settle(hold);
  } else if (hold->start.ahead || !hold_wake(hold, false)) {
    tell_rest(hold);
  }
}

bool hold_wake(struct hold *hold, bool sweep) {
  if (hold->state != HOLD_IDLE || has_outcomes(hold) || hold_error_is_waiting(&hold->error))
    return false;
  hold->sweeps = sweep || (hold->waits && hold->sweeps);
  if (hold->waits || !may_claim(hold))
    return hold->waits;
  send_claim(hold, sweep);
  connection_sync(hold->connection);
  return true;
}

bool hold_close(struct hold *hold) {
  if (hold_is_asleep(hold) && !hold_error_is_waiting(&hold->error)) {
    connection_close(hold->connection);
    hold->state = HOLD_DOWN;
  }
  return hold->state == HOLD_DOWN;
}

bool hold_claim_through_gate(struct hold *hold) {
  bool waits = hold->waits;
  hold->waits = false;
  if (!waits)
    return false;
  if (hold_wake(hold, hold->sweeps))
    return true;
  if (hold->state == HOLD_IDLE)
    tell_rest(hold);
  return false;
}

void hold_claim_ahead(struct hold *hold) {
  if (hold->state == HOLD_DOWN && claim_choose(&hold->claim, CLAIM_AHEAD, INT32_MAX))
    connection_open(hold->connection);
  hold_wake(hold, false);
}

/* ── what comes back ── */

/* What the claim has cost, or the look: sweeps have a budget. */
static void claim_cost(struct hold *hold, bool swept) {
  int64_t now_ms = clock_ms();
  sweep_saw(hold->start.sweep, now_ms, now_ms - hold->claim.sent_ms, swept);
}

static void take_claim(struct hold *hold, const PGresult *result) {
  claim_take(&hold->claim, result);
  if (PQntuples(result) == 0)
    return;
  batch_take(&hold->batch, result, hold->claim.asked, hold->claim.asked_index,
             hold->start.events->together(hold->start.owner));
  batch_send(&hold->batch, result, &hold->out);
}

static void take_data(struct hold *hold, const PGresult *result) {
  const struct job *job = hold->large < hold->batch.count ? &hold->batch.jobs[hold->large] : NULL;
  if (!job || job->outcome != OUTCOME_NONE || job->position > 0) /* it was given back while its data was on the way */
    return;
  if (PQntuples(result) == 1)
    batch_send_large(&hold->batch, hold->large, PQgetvalue(result, 0, 0), (size_t)PQgetlength(result, 0, 0),
                     &hold->out);
}

static void on_result(void *owner, enum statement statement, PGresult *result) {
  struct hold *hold = owner;
  if (result_failed(result)) {
    if (result_is_cause(result))
      hold_error_note(&hold->error, result);
    return;
  }
  switch (statement) {
  case STATEMENT_COMMIT:
    connection_works(hold->connection);
    hold->loss_told = false;
    batch_log(&hold->settling);
    batch_clear(&hold->settling);
    hold->rescue.singly = hold->rescue.singly && hold->rescue.jobs.count > 0;
    break;
  case STATEMENT_CLAIM:
    take_claim(hold, result);
    break;
  case STATEMENT_DATA:
    take_data(hold, result);
    break;
  case STATEMENT_LOOK:
    claim_cost(hold, true);
    look_take(&hold->claim, result, &hold->look);
    break;
  default:
    batch_written(&hold->settling, statement, result);
  }
}

/* The claim is back: its jobs go to the executor, if that is still there and wanted. */
static void end_claim(struct hold *hold) {
  claim_cost(hold, hold->claim.low_one);
  claim_gate_leave(hold->start.gate, hold);
  if (hold->batch.count == 0) {
    close_and_look(hold);
    return;
  }
  hold->state = HOLD_RUNNING;
  hold->running_since_ms = clock_ms();
  hold->large = -1;
  if (hold->stopping || hold->claim.stale || !child_is_ready(hold->child) ||
      (hold->batch.alone && !hold->start.events->alone(hold->start.owner, hold))) {
    buffer_free(&hold->out);
    batch_release(&hold->batch, NULL, false);
  } else {
    hold_dispatch(hold);
    hold->start.events->found(hold->start.owner, hold);
    if (hold->claim.full)
      hold->start.events->more(hold->start.owner, hold);
  }
  hold_go_on(hold);
}

static void end_closing(struct hold *hold) {
  bool released = hold->released, nothing = hold->nothing;
  hold->released = hold->nothing = false;
  hold->state = HOLD_IDLE;
  hold_send_leased(hold);
  if (released)
    hold->start.events->more(hold->start.owner, hold);
  if (hold->rescue.jobs.count > 0 || lease_list_ended(&hold->leased) > 0 || !nothing)
    hold_proceed(hold);
  else
    tell_rest(hold);
}

/* An act failed, and the session has survived it: nothing of the act was done. */
static void undo(struct hold *hold) {
  if (hold_error_is_content(&hold->error)) {
    if (hold->rescue.singly && hold->settling.count == 1)
      rescue_blame(&hold->settling, hold_error_message(&hold->error), lose_lease, hold);
    hold->rescue.singly = true;
  }
  bool content = hold_error_is_content(&hold->error);
  hold_keep_for_rescue(hold);
  claim_gate_leave(hold->start.gate, hold);
  hold_error_begin(&hold->error, hold->name, !(content && hold->rescue.jobs.count > 0));
  hold->state = HOLD_UNDOING;
  connection_send(hold->connection, STATEMENT_ROLLBACK, NULL);
  connection_sync(hold->connection);
}

static void on_synced(void *owner) {
  struct hold *hold = owner;
  if (hold_error_is_noted(&hold->error)) {
    if (hold->state == HOLD_UNDOING || hold_error_is_of_session(&hold->error))
      connection_fail(hold->connection, hold_error_message(&hold->error));
    else
      undo(hold);
    return;
  }
  if (hold->state != HOLD_UNDOING && hold->state != HOLD_LOCKING)
    hold_error_reset(&hold->error);
  switch (hold->state) {
  case HOLD_CLAIMING:
    end_claim(hold);
    break;
  case HOLD_RUNNING:
    hold->fetching = false;
    hold->running_since_ms = clock_ms();
    if (hold->batch.open > 0)
      hold_dispatch(hold);
    hold_go_on(hold);
    break;
  case HOLD_LOCKING:
    rescue_drop_unlocked(&hold->settling, lose_lease, hold);
    hold_settle(hold);
    break;
  case HOLD_CLOSING:
    end_closing(hold);
    break;
  default:
    hold->state = HOLD_IDLE;
    hold_proceed(hold);
  }
}

void hold_error_wait_over(void *owner) {
  hold_proceed(owner);
}

static void on_up(void *owner) {
  struct hold *hold = owner;
  hold->state = HOLD_IDLE;
  hold_proceed(hold);
  if (hold->start.ahead) /* it was opened for that */
    hold_wake(hold, false);
}

static void on_down(void *owner, const char *reason) {
  struct hold *hold = owner;
  int jobs = hold->batch.count + hold->settling.count;
  (void)reason;
  hold_keep_for_rescue(hold);
  hold_error_forget(&hold->error);
  if (jobs > 0)
    log_line(hold->loss_told ? LOG_DEBUG : LOG_WARN, "a hold was lost: its jobs are due again",
             LOG_T("hold", hold->name), LOG_I("jobs", jobs), LOG_I("to_rescue", hold->rescue.jobs.count));
  hold->loss_told = jobs > 0;
  hold->state = HOLD_DOWN;
  claim_forget_floors(&hold->claim);
  hold->waits = false;
  claim_gate_withdraw(hold->start.gate, hold);
  hold->start.events->rested(hold->start.owner, hold);
}
