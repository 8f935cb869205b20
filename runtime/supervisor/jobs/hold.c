#include "hold_state.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "memory.h"
#include "settle.h"

/* How long the claim gate stays shut after the hold that has shut it has lost its session. */
enum { SHUT_WHILE_DOWN_MS = 30000 };

static void on_up(void *owner);
static void on_down(void *owner, const char *reason);
static void on_result(void *owner, enum statement statement, PGresult *result);
static void on_synced(void *owner);

static const struct connection_events connection_events = {on_up, on_down, on_result, on_synced, NULL};

struct hold *hold_new(const char *name, const struct hold_start *start) {
  struct hold *hold = memory_new(sizeof *hold);
  const struct options *options = start->options;
  *hold = (struct hold){.name = memory_text(name), .start = *start, .child = start->child, .idle.wait_ms = -1};
  hold->connection = connection_new(start->loop, name, options->db, options->hold_limit_ms + IDLE_MARGIN_MS,
                                    start->mode, &connection_events, hold);
  hold_error_init(&hold->error, start->loop, hold);
  hold->batch.number = start->lane;
  uv_timer_init(start->loop, &hold->check_timer);
  hold->check_timer.data = hold;
  hold_register(hold);
  return hold;
}

/* ── the claim gate ── */

/* The database refuses outcomes: no hold of the worker claims until they are written. */
static void shut_gate(struct hold *hold) {
  if (hold->shuts_gate || hold->rescue.jobs.count == 0)
    return;
  hold->shuts_gate = true;
  claim_gate_shut(hold->start.gate);
}

static void unshut_gate(struct hold *hold) {
  if (!hold->shuts_gate)
    return;
  hold->shuts_gate = false;
  claim_gate_unshut(hold->start.gate);
}

static void free_hold(uv_handle_t *check_timer) {
  struct hold *hold = check_timer->data;
  hold_unregister(hold);
  batch_clear(&hold->batch);
  batch_clear(&hold->settling);
  rescue_free(&hold->rescue);
  refused_free(&hold->refused);
  lease_list_free(&hold->leased);
  claim_free(&hold->claim);
  buffer_free(&hold->out);
  free(hold->name);
  free(hold);
}

static void close_check_timer(uv_handle_t *timer) {
  struct hold *hold = timer->data;
  uv_close((uv_handle_t *)&hold->check_timer, free_hold);
}

void hold_free(struct hold *hold) {
  if (!hold)
    return;
  uv_timer_stop(&hold->check_timer); /* the timer may be due now, and is closed later */
  int unwritten = hold->rescue.jobs.count + hold->refused.jobs.count;
  if (unwritten > 0)
    log_error("outcomes could not be written before the worker stopped: their jobs run again",
              LOG_T("hold", hold->name), LOG_I("jobs", unwritten));
  unshut_gate(hold);
  hold_forget_ignored(hold);
  claim_gate_withdraw(hold->start.gate, hold);
  connection_free(hold->connection);
  hold_error_close(&hold->error, close_check_timer); /* one handle after the other: the last one frees the memory */
}

void hold_serve(struct hold *hold, struct queue *const *queues, uint32_t count) {
  claim_serve(&hold->claim, queues, count);
}

void hold_open(struct hold *hold) {
  connection_open(hold->connection);
}

/* ── states ── */

#define TO(state) (1u << (state))

/* The states that may follow each state. Every state but HOLD_DOWN may also become HOLD_DOWN. */
static const unsigned successors[] = {
    [HOLD_DOWN] = TO(HOLD_IDLE),
    [HOLD_IDLE] = TO(HOLD_CLAIMING) | TO(HOLD_CLOSING) | TO(HOLD_LOCKING),
    [HOLD_CLAIMING] = TO(HOLD_RUNNING) | TO(HOLD_CLOSING_EMPTY) | TO(HOLD_UNDOING),
    [HOLD_RUNNING] = TO(HOLD_CLAIMING) | TO(HOLD_FETCHING) | TO(HOLD_LEASING) | TO(HOLD_CLOSING),
    [HOLD_FETCHING] = TO(HOLD_RUNNING) | TO(HOLD_UNDOING),
    [HOLD_LEASING] = TO(HOLD_IDLE) | TO(HOLD_UNDOING),
    [HOLD_CLOSING] = TO(HOLD_IDLE) | TO(HOLD_UNDOING),
    [HOLD_CLOSING_EMPTY] = TO(HOLD_IDLE) | TO(HOLD_UNDOING),
    [HOLD_LOCKING] = TO(HOLD_CLAIMING) | TO(HOLD_CLOSING) | TO(HOLD_UNDOING),
    [HOLD_UNDOING] = TO(HOLD_IDLE),
};

void hold_set_state(struct hold *hold, enum hold_state state) {
  bool allowed = state == HOLD_DOWN ? hold->state != HOLD_DOWN : (successors[hold->state] & TO(state)) != 0;
  if (!allowed) {
    log_error("internal error: a hold cannot change its state like this; the worker ends", LOG_T("hold", hold->name),
              LOG_I("from", hold->state), LOG_I("to", state));
    abort();
  }
  hold->state = state;
}

bool hold_has_batch(const struct hold *hold) {
  return hold->state == HOLD_RUNNING || hold->state == HOLD_FETCHING;
}

static bool has_jobs(const struct hold *hold) {
  return hold->leased.count > 0 || hold->rescue.jobs.count > 0 || hold->refused.jobs.count > 0;
}

bool hold_is_asleep(const struct hold *hold) {
  return hold->state == HOLD_IDLE && !has_jobs(hold) && !claim_gate_is_waiting(hold->start.gate, hold);
}

bool hold_is_at_rest(const struct hold *hold) {
  return (hold->state == HOLD_IDLE || hold->state == HOLD_DOWN) && !has_jobs(hold);
}

bool hold_is_up(const struct hold *hold) {
  return hold->state != HOLD_DOWN;
}

bool hold_has_unacknowledged(const struct hold *hold) {
  return hold->unacknowledged > 0;
}

int hold_count_leased(const struct hold *hold) {
  return lease_list_busy(&hold->leased);
}

int hold_count_begun(const struct hold *hold) {
  int count = 0;
  for (int i = 0; i < hold->leased.count; i++)
    count += hold->leased.items[i].job.outcome == OUTCOME_NONE && hold_lease_has_begun(hold, &hold->leased.items[i]);
  uint32_t begun = child_begun(hold->child, hold->batch.number);
  for (int i = 0; i < hold->batch.count; i++)
    count += hold->batch.jobs[i].outcome == OUTCOME_NONE && hold->batch.jobs[i].position > 0 &&
             hold->batch.jobs[i].position <= begun;
  return count;
}

const struct job *hold_find(const struct hold *hold, int64_t id) {
  const struct job *job = batch_find(&hold->batch, id);
  return job ? job : lease_list_find(&hold->leased, id);
}

const struct job *hold_oldest_leased(const struct hold *hold, int64_t *since_ms) {
  const struct lease *oldest = NULL;
  for (int i = 0; i < hold->leased.count; i++) {
    const struct lease *lease = &hold->leased.items[i];
    if (lease->job.outcome == OUTCOME_NONE && (!oldest || lease->since_ms < oldest->since_ms))
      oldest = lease;
  }
  *since_ms = oldest ? oldest->since_ms : 0;
  return oldest ? &oldest->job : NULL;
}

int hold_count_jobs(const struct hold *hold, const struct queue *queue) {
  int count = 0;
  for (int i = 0; i < hold->batch.count; i++)
    count += hold->batch.jobs[i].outcome == OUTCOME_NONE && hold->batch.jobs[i].queue == queue;
  for (int i = 0; i < hold->leased.count; i++)
    count += hold->leased.items[i].job.outcome == OUTCOME_NONE && hold->leased.items[i].job.queue == queue;
  return count;
}

void hold_add_in_flight(const struct hold *hold) {
  for (int i = 0; i < hold->batch.count; i++)
    hold->batch.jobs[i].queue->in_flight += hold->batch.jobs[i].outcome == OUTCOME_NONE;
  for (int i = 0; i < hold->leased.count; i++)
    hold->leased.items[i].job.queue->in_flight += hold->leased.items[i].job.outcome == OUTCOME_NONE;
}

bool hold_is_holding(const struct hold *hold) {
  return hold_has_batch(hold) && hold->batch.open > 0;
}

bool hold_may_run(const struct hold *hold, int64_t id) {
  const struct job *job = batch_find(&hold->batch, id);
  return (job && job->position > 0) || lease_list_find(&hold->leased, id);
}

void hold_count_running(const struct hold *hold, int32_t *counts, uint32_t queue_count) {
  for (int i = 0; i < hold->batch.count; i++)
    if (hold->batch.jobs[i].outcome == OUTCOME_NONE && hold->batch.jobs[i].queue_index < queue_count)
      counts[hold->batch.jobs[i].queue_index]++;
  for (int i = 0; i < hold->leased.count; i++)
    if (hold->leased.items[i].job.outcome == OUTCOME_NONE && hold->leased.items[i].job.queue_index < queue_count)
      counts[hold->leased.items[i].job.queue_index]++;
}

/* ── acts: statements that are sent together and end with a sync ── */

static void send_statement(void *context, enum statement statement, const struct parameters *parameters) {
  struct hold *hold = context;
  if (hold->ignored > 0 || hold->retrying)
    connection_send_text(hold->connection, statement, parameters);
  else
    connection_send(hold->connection, statement, parameters);
}

void hold_settle(struct hold *hold) {
  batch_learn(&hold->batch);
  batch_sweep_next(&hold->batch);
  batch_move(&hold->settling, &hold->batch);
  if (hold_may_settle_leased(hold) && !hold->retrying) {
    lease_list_collect(&hold->leased, &hold->settling);
    hold_split_from_refused_leases(hold);
  }
  if (!connection_is_unicode(hold->connection))
    settle_make_ascii(&hold->settling);
  settle_send(&hold->settling, hold->start.options->lease_ms, hold->start.history, hold->start.version, send_statement,
              hold);
  connection_send(hold->connection, STATEMENT_COMMIT, NULL);
  /* After jobs went back, no claim follows at once: the long job that keeps the executor busy may belong to another
   * hold, which gives its own jobs back first. */
  bool due = rescue_is_due(&hold->rescue) || refused_is_due(&hold->refused) || hold->retrying;
  bool more = !hold->gave_back && !due && (!hold->start.ahead || hold->claim.full);
  if (hold->out.length > 0)
    hold_set_state(hold, HOLD_LEASING);
  else if (more && hold_may_claim(hold))
    hold_send_claim(hold, sweep_is_wanted(hold->start.sweep, clock_ms()));
  else
    hold_set_state(hold, HOLD_CLOSING);
  connection_sync(hold->connection);
}

/* Locks the rows of the jobs to be rescued, or of a job that was refused, except rows that have changed. */
static void lock_rows(struct hold *hold) {
  struct parameters parameters = {0};
  hold->retrying = !rescue_is_due(&hold->rescue);
  enum statement statement = hold->retrying ? refused_next(&hold->refused, &hold->settling, &parameters)
                                            : rescue_next(&hold->rescue, &hold->settling, &parameters);
  hold_set_state(hold, HOLD_LOCKING);
  connection_begin(hold->connection);
  hold_ask_suppressor(hold);
  connection_send(hold->connection, statement, &parameters);
  connection_sync(hold->connection);
  parameters_free(&parameters);
}

void hold_proceed(struct hold *hold) {
  if (hold->state != HOLD_IDLE || hold_error_is_waiting(&hold->error))
    return;
  if (rescue_is_due(&hold->rescue) || (hold->rescue.jobs.count == 0 && refused_is_due(&hold->refused))) {
    lock_rows(hold);
  } else if (hold_has_ended_leased(hold)) {
    connection_begin(hold->connection);
    hold_settle(hold);
  } else if (hold->start.ahead || !hold_wake(hold, false)) {
    hold_rest(hold);
  }
}

/* ── reports of the connection ── */

static void lose_lease(void *context, int64_t id) {
  hold_lease_lost(context, id);
}

static void take_commit(struct hold *hold) {
  bool had_ignored = hold->ignored > 0;
  connection_works(hold->connection);
  hold->loss_logged = false;
  bool opened = hold_take_written(hold) || hold->shuts_gate || had_ignored;
  if (hold->wrote)
    hold_keep_ignored(hold);
  else if (hold->rescuing && hold->rescue.jobs.count == 0 && !refused_find_ignored(&hold->refused))
    hold_forget_ignored(hold); /* the jobs are gone */
  hold->rescuing = hold->retrying = false;
  settle_log(&hold->settling);
  hold->start.counts->settles += tally_batch(&hold->settling) > 0;
  batch_clear(&hold->settling);
  hold->rescue.singly = hold->rescue.singly && hold->rescue.jobs.count > 0;
  if (hold->rescue.jobs.count > 0 || hold->ignored > 0)
    return;
  unshut_gate(hold);
  if (opened)
    hold->start.events->more(hold->start.owner, hold);
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
    take_commit(hold);
    break;
  case STATEMENT_FIND_SUPPRESSOR:
    hold_log_suppressor(hold, result);
    break;
  case STATEMENT_LOCK_SWEEP:
    hold_take_sweep_lock(hold, result);
    break;
  case STATEMENT_LOCK_TABLE:
    hold_take_lock(hold);
    break;
  case STATEMENT_CLAIM:
  case STATEMENT_CLAIM_IN_FLEET:
    if (claim_fits(result))
      hold_take_claim(hold, result);
    else
      hold_error_note_text(&hold->error, "42804", "a column of pgq_jobs has got a type that the worker cannot read");
    break;
  case STATEMENT_FIND_DUE:
    claim_take_look(&hold->claim, result);
    break;
  case STATEMENT_FETCH_DATA:
    hold_take_data(hold, result);
    break;
  case STATEMENT_NEXT_DUE:
    hold_add_claim_cost(hold, true);
    idle_info_take(&hold->claim, result, &hold->idle);
    break;
  default:
    hold->wrote = settle_take(&hold->settling, statement, result) || hold->wrote;
    hold->rescheduled = hold->rescheduled || settle_reschedules(statement);
  }
}

/* A statement failed, and the session has survived it: no statement of the act had an effect. */
static void undo(struct hold *hold) {
  bool retrying = hold->retrying;
  bool row = hold->settling.count > 0 && (retrying || hold_error_is_of_row(&hold->error));
  if (row && hold->settling.count == 1 && (retrying || hold->rescue.singly))
    hold_refuse(hold);
  else if (row && hold->state == HOLD_LEASING)
    hold_refuse_leases(hold);
  hold->retrying = false;
  hold->rescue.singly = hold->rescue.singly || (row && !retrying);
  hold_keep_for_rescue(hold);
  hold->rescue.singly = hold->rescue.singly && hold->rescue.jobs.count > 0;
  claim_gate_leave(hold->start.gate, hold);
  if (!row)
    shut_gate(hold);
  else if (hold->rescue.jobs.count == 0)
    unshut_gate(hold);
  if (retrying)
    hold_error_forget(&hold->error);
  else
    hold_error_begin(&hold->error, hold->name, !row);
  hold_set_state(hold, HOLD_UNDOING);
  connection_send(hold->connection, STATEMENT_ROLLBACK, NULL);
  connection_sync(hold->connection);
}

/* The session cannot go on. If the tables are the cause, no hold claims before the outcomes in hand are written. */
static void give_session_up(struct hold *hold) {
  bool tables = hold_error_is_of_tables(&hold->error);
  if (tables)
    hold_error_begin(&hold->error, hold->name, false);
  connection_fail(hold->connection, hold_error_message(&hold->error));
  if (!tables)
    return;
  shut_gate(hold);
  if (hold->shuts_gate)
    hold_error_wait_ms(&hold->error, SHUT_WHILE_DOWN_MS);
}

/* The transaction has ended without a new claim. */
static void end_closing(struct hold *hold) {
  enum hold_state closed = hold->state;
  bool gave_back = hold->gave_back;
  hold->gave_back = false;
  hold_set_state(hold, HOLD_IDLE);
  if (closed == HOLD_LEASING)
    hold_send_leased(hold);
  if (gave_back)
    hold->start.events->more(hold->start.owner, hold);
  if (rescue_is_due(&hold->rescue) || hold_has_ended_leased(hold) || closed != HOLD_CLOSING_EMPTY)
    hold_proceed(hold);
  else
    hold_rest(hold);
}

/* No statement of the act has failed. Only a write shows that the database takes writes again. */
static void end_act(struct hold *hold) {
  if (hold->ignored == 0 && (hold->wrote || hold->state == HOLD_CLOSING_EMPTY))
    hold_error_reset(&hold->error);
  hold->wrote = false;
}

static void on_synced(void *owner) {
  struct hold *hold = owner;
  if (hold_error_is_noted(&hold->error)) {
    if (hold->state == HOLD_UNDOING || hold_error_is_of_session(&hold->error))
      give_session_up(hold);
    else
      undo(hold);
    return;
  }
  end_act(hold);
  if (hold->renew) {
    hold->renew = false;
    connection_fail(hold->connection,
                    "the database takes the writes that it had ignored; prepared statements may not know");
    return;
  }
  switch (hold->state) {
  case HOLD_CLAIMING:
    hold_end_claim(hold);
    break;
  case HOLD_FETCHING:
    hold_set_state(hold, HOLD_RUNNING);
    hold->running_since_ms = clock_ms();
    if (hold->batch.open > 0)
      hold_dispatch(hold);
    else
      buffer_free(&hold->out); /* the job was given back while its data was on the way */
    hold_go_on(hold);
    break;
  case HOLD_LOCKING:
    rescue_sort(&hold->rescue, &hold->settling, lose_lease, hold);
    if (hold->retrying)
      refused_put_back(&hold->refused, &hold->rescue.jobs);
    hold_start_checks(hold); /* jobs that are still locked are tried again */
    hold->rescuing = true;
    hold_settle(hold);
    break;
  case HOLD_LEASING:
  case HOLD_CLOSING:
  case HOLD_CLOSING_EMPTY:
    end_closing(hold);
    break;
  case HOLD_UNDOING:
    hold_set_state(hold, HOLD_IDLE);
    hold_proceed(hold);
    break;
  case HOLD_DOWN:
  case HOLD_IDLE:
  case HOLD_RUNNING:
    break; /* no act is under way */
  }
}

void hold_error_wait_over(void *owner) {
  struct hold *hold = owner;
  if (hold->state == HOLD_DOWN && hold->shuts_gate) {
    unshut_gate(hold);
    hold->start.events->more(hold->start.owner, hold);
  }
  hold_proceed(hold);
}

static void on_up(void *owner) {
  struct hold *hold = owner;
  hold_set_state(hold, HOLD_IDLE);
  hold_error_end_wait(&hold->error);
  hold_proceed(hold);
  if (hold->start.ahead) /* the connection was opened for a claim */
    hold_wake(hold, false);
}

static void on_down(void *owner, const char *reason) {
  struct hold *hold = owner;
  int jobs = hold->batch.count + hold->settling.count;
  (void)reason;
  hold_keep_for_rescue(hold);
  hold->rescue.wait = true;
  hold->rescue.locked = false;
  hold_error_forget(&hold->error);
  hold->wrote = hold->retrying = false;
  if (hold->shuts_gate) /* the server may take this worker's other sessions, but no new one */
    hold_error_wait_ms(&hold->error, SHUT_WHILE_DOWN_MS);
  if (jobs > 0)
    log_line(hold->loss_logged ? LOG_DEBUG : LOG_WARN, "the session of a hold was lost: its jobs are due again",
             LOG_T("hold", hold->name), LOG_I("jobs", jobs), LOG_I("to_rescue", hold->rescue.jobs.count));
  hold->loss_logged = jobs > 0;
  hold_set_state(hold, HOLD_DOWN);
  claim_forget_floors(&hold->claim);
  claim_gate_withdraw(hold->start.gate, hold);
  hold->start.events->rested(hold->start.owner, hold);
}
