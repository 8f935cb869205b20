/* The part of hold.h about jobs that are with the executor: it sends, checks and takes back jobs, and receives their
 * outcomes. */
#include "hold_state.h"

#include <stdio.h>

#include "clock.h"
#include "duration.h"
#include "log.h"

/* Running jobs are checked every CHECK_MS; the process and the leases at every PROCESS_CHECKS-th check. */
enum { CHECK_MS = 10, PROCESS_CHECKS = 10 };

/* If all jobs wait, they are leased after LEASE_WAITING_MS; after LEASE_WAITING_FULL_MS if more jobs could begin. */
enum { LEASE_WAITING_MS = 10, LEASE_WAITING_FULL_MS = 50 };

/* A handler that has not waited for this long keeps its executor from other jobs. */
enum { STUCK_MS = 10 };

/* How long the transfer of a large job's data to the executor may take. */
enum { TRANSFER_MS = 30000 };

static void on_check(uv_timer_t *timer);

void hold_start_checks(struct hold *hold) {
  if (!uv_is_active((uv_handle_t *)&hold->check_timer))
    uv_timer_start(&hold->check_timer, on_check, CHECK_MS, CHECK_MS);
}

/* ── jobs go to the executor ── */

/*
 * Jobs are leased before they run in two cases: if an earlier claim of them ended without an outcome, or a process died
 * while it had them, so that their rows show who runs them if this worker dies, too; and in transactional queues, whose
 * handlers complete their jobs themselves.
 */
void hold_dispatch(struct hold *hold) {
  if (hold->out.length == 0)
    return;
  hold_start_checks(hold);
  if (hold->batch.token == 0) {
    child_begin_batch(hold->child, hold->batch.number);
    child_send(hold->child, &hold->out);
    return;
  }
  batch_split(&hold->batch, hold->batch.sent, hold_token(hold));
  lease_list_add_from(&hold->leased, &hold->batch);
}

static bool has_job_at_executor(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].position > 0 && batch->jobs[i].outcome == OUTCOME_NONE)
      return true;
  return false;
}

void hold_go_on(struct hold *hold) {
  if (hold->state == HOLD_IDLE)
    hold_proceed(hold);
  if (hold->state != HOLD_RUNNING)
    return;
  if (hold->batch.open == 0) {
    hold_settle(hold);
    return;
  }
  int large = batch_next_large(&hold->batch);
  if (large < 0 || has_job_at_executor(&hold->batch))
    return;
  struct parameters parameters = {0};
  char idle_timeout_ms[24];
  snprintf(idle_timeout_ms, sizeof idle_timeout_ms, "%d", TRANSFER_MS + IDLE_MARGIN_MS);
  parameters_add_i64(&parameters, hold->batch.jobs[large].id);
  parameters_add_text(&parameters, idle_timeout_ms);
  hold_set_state(hold, HOLD_FETCHING);
  hold->large_job = large;
  connection_send(hold->connection, STATEMENT_FETCH_DATA, &parameters);
  connection_sync(hold->connection);
  parameters_free(&parameters);
}

void hold_take_data(struct hold *hold, const PGresult *result) {
  const struct job *job = hold->large_job < hold->batch.count ? &hold->batch.jobs[hold->large_job] : NULL;
  if (!job || job->outcome != OUTCOME_NONE || job->position > 0) /* it was given back before its data came */
    return;
  if (PQntuples(result) == 1)
    batch_send_large(&hold->batch, hold->large_job, PQgetvalue(result, 0, 0), (size_t)PQgetlength(result, 0, 0),
                     &hold->out);
}

/* ── jobs are taken back, or leased ── */

void hold_split(struct hold *hold) {
  int open = hold->batch.open;
  uint32_t begun = child_revoke(hold->child, hold->batch.number);
  int unbegun = child_is_alive(hold->child) ? batch_count_unbegun(&hold->batch, begun) : 0;
  if (unbegun > 0) /* jobs that wait until others end come back at once */
    child_recall(hold->child, hold->batch.number, QUEUE_ALL);
  hold->unacknowledged += unbegun;
  int leases = batch_split(&hold->batch, begun, hold_token(hold));
  lease_list_add_from(&hold->leased, &hold->batch);
  hold->gave_back = hold->gave_back || leases < open;
}

/* The data of a large job is on its way from the server or to the executor: the job's time has not begun. */
static bool is_transferring(const struct hold *hold) {
  if (hold->state == HOLD_FETCHING)
    return true;
  if (hold->large_job < 0 || hold->large_job >= hold->batch.count || clock_ms() - hold->running_since_ms > TRANSFER_MS)
    return false;
  const struct job *job = &hold->batch.jobs[hold->large_job];
  return job->outcome == OUTCOME_NONE && job->position > child_begun(hold->child, hold->batch.number);
}

void hold_give_back(struct hold *hold) {
  if (hold->state != HOLD_RUNNING || hold->batch.open == 0 || is_transferring(hold))
    return;
  hold_split(hold);
  hold_go_on(hold);
}

void hold_recall(struct hold *hold, const struct queue *queue) {
  uint32_t index = QUEUE_ALL;
  if (queue)
    hold_recall_leased(hold, queue);
  else
    hold_give_back_unbegun_leased(hold, 0);
  if (!hold_has_batch(hold) || (queue && !batch_has_open(&hold->batch, queue, &index)))
    return;
  batch_release(&hold->batch, queue, true);
  child_recall(hold->child, hold->batch.number, index);
}

void hold_stop(struct hold *hold) {
  hold->stopping = true;
  hold_recall(hold, NULL);
  if (hold_has_batch(hold))
    hold_go_on(hold);
}

/* ── the checks ── */

static void check_time_limit(struct hold *hold) {
  int64_t id, ran_ms;
  if (!child_is_overdue(hold->child) || !child_current(hold->child, &id, &ran_ms))
    return;
  const struct job *job = batch_find(&hold->batch, id);
  job = job ? job : lease_list_find(&hold->leased, id);
  if (!job || job->queue->timeout_ms == 0)
    return;
  char limit[DURATION_TEXT_SIZE], cause[128];
  duration_format(job->queue->timeout_ms, limit);
  snprintf(cause, sizeof cause, "was killed at the time limit of %s", limit);
  child_kill(hold->child, cause);
}

/*
 * If all handlers wait, the jobs are leased, so that the hold is free for others. Two checks in a row must see it:
 * before the first one, outcomes may have arrived that were not read yet.
 */
static bool lease_waiting_jobs(struct hold *hold, int64_t ran_ms) {
  bool all_begun = child_begun(hold->child, hold->batch.number) >= hold->batch.sent;
  bool waiting = child_is_all_waiting(hold->child) && ran_ms >= (all_begun ? LEASE_WAITING_MS : LEASE_WAITING_FULL_MS);
  bool again = waiting && hold->waiting_batch == hold->batch.number;
  hold->waiting_batch = waiting ? hold->batch.number : 0;
  if (!again)
    return false;
  int jobs = hold->batch.open;
  hold_split(hold);
  batch_learn_waiting(&hold->batch, ran_ms * 1000 / jobs);
  hold_go_on(hold);
  return true;
}

static void check_hold_limit(struct hold *hold) {
  if (hold->state != HOLD_RUNNING || hold->batch.open == 0 || is_transferring(hold))
    return;
  int64_t ran_ms = clock_ms() - hold->running_since_ms;
  if (lease_waiting_jobs(hold, ran_ms) || ran_ms < hold->start.options->hold_limit_ms)
    return;
  bool stuck = child_busy_ms(hold->child) >= STUCK_MS;
  hold_give_back(hold);
  if (stuck)
    hold->start.events->blocked(hold->start.owner, hold);
}

static void on_check(uv_timer_t *timer) {
  struct hold *hold = timer->data;
  if (!hold_has_batch(hold) && hold->leased.count == 0 && !hold->no_capacity && !hold->rescue.locked &&
      hold->refused.jobs.count == 0) {
    uv_timer_stop(timer);
    return;
  }
  check_time_limit(hold);
  if (hold->checks++ % PROCESS_CHECKS == 0) {
    child_check_process(hold->child);
    hold_kill_stuck_lost(hold);
    hold_give_back_unbegun_leased(hold, hold->start.options->hold_limit_ms);
  }
  check_hold_limit(hold);
  if (hold->state != HOLD_IDLE)
    return;
  if ((hold->rescue.locked && rescue_is_due(&hold->rescue)) || refused_is_due(&hold->refused) ||
      (hold->no_capacity && child_busy_ms(hold->child) < STUCK_MS))
    hold_proceed(hold); /* a handler that kept the executor busy may wait by now */
}

/* ── outcomes ── */

/* Updates the statistics of the job's queue. */
static void learn(struct hold *hold, const struct job *job) {
  if (job->outcome == OUTCOME_UNRUN && job->queue->concurrency > 0) /* the queue had reached its own limit */
    queue_saw_waiting(job->queue);
  if (job->outcome == OUTCOME_COMPLETE || job->outcome == OUTCOME_SETTLED)
    queue_succeeded(job->queue);
  if (!job->backoff)
    return;
  int64_t pause_ms = queue_back_off(job->queue, clock_ms(), job->error);
  if (pause_ms == 0)
    return;
  log_warn("queue backs off", LOG_T("queue", job->queue->name), LOG_I("job", job->id), LOG_T("error", job->error),
           LOG_US("pause", pause_ms * 1000));
  hold->start.events->backed_off(hold->start.owner, job->queue);
}

/* The outcome of a job that was given back comes too late to count, but it acknowledges the job. */
static bool take_late(struct hold *hold, bool possible) {
  hold->unacknowledged -= hold->unacknowledged > 0;
  return possible;
}

bool hold_outcome(struct hold *hold, const struct job_outcome *outcome) {
  const struct job *job = lease_list_end(&hold->leased, outcome);
  if (!job) {
    if (outcome->batch != hold->batch.number || !hold_has_batch(hold) || hold->batch.open == 0)
      return take_late(hold, outcome->batch <= hold->batch.number);
    if (!batch_end_job(&hold->batch, outcome->index, outcome))
      return take_late(hold, outcome->outcome == OUTCOME_UNRUN);
    job = &hold->batch.jobs[outcome->index];
  }
  learn(hold, job);
  return true;
}

void hold_outcomes_end(struct hold *hold) {
  hold_go_on(hold);
}

void hold_child_died(struct hold *hold, const struct child_death *death) {
  hold->unacknowledged = 0;
  for (int i = 0; i < hold->leased.count; i++) {
    struct lease *lease = &hold->leased.items[i];
    if (lease->job.outcome == OUTCOME_NONE && !hold_lease_has_begun(hold, lease))
      lease->job.outcome = OUTCOME_UNRUN;
  }
  lease_list_child_died(&hold->leased, death);
  if (hold_has_batch(hold)) {
    if (death->has_culprit)
      batch_fail_culprit(&hold->batch, death);
    else if (death->cause)
      batch_count_death(&hold->batch, child_begun(hold->child, hold->batch.number), death);
    batch_release(&hold->batch, NULL, false);
  }
  hold_go_on(hold);
}
