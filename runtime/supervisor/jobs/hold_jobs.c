#include "hold_state.h"

#include <stdio.h>

#include "clock.h"
#include "duration.h"
#include "log.h"

/* How often running jobs are looked at, and every how many times the process is. */
enum { WATCH_MS = 10, PROCESS_TICKS = 10 };

/* How long a handler may go on without waiting once its lease is lost, and how long it may go on at all. */
enum { LOST_MS = 1000, LOST_MOST_MS = 10000 };

/* When a hold's jobs all wait they are leased after so long; later, if there are more that could begin any moment. */
enum { PARK_MS = 10, PARK_FULL_MS = 50 };

/* A handler that has not waited for so long keeps its executor from others. */
enum { STUCK_MS = 10 };

/* How long a large job's data may take to the executor. */
enum { BRING_MS = 30000 };

/* ── running jobs ── */

void hold_start_watch(struct hold *hold) {
  if (!uv_is_active((uv_handle_t *)&hold->watch))
    uv_timer_start(&hold->watch, hold_on_watch, WATCH_MS, WATCH_MS);
}

static int64_t token_of(const struct batch *batch) {
  return batch->token ? batch->token : lease_token(batch->count);
}

/*
 * Jobs go to the executor. They are leased first in careful times, so that what they do to all of us is known, and when
 * their handlers are to complete them.
 */
void hold_dispatch(struct hold *hold) {
  if (hold->out.length == 0)
    return;
  hold_start_watch(hold);
  if (!hold_is_careful(hold) && hold->batch.token == 0) {
    child_begin_batch(hold->child, hold->batch.number);
    child_send(hold->child, &hold->out);
    return;
  }
  batch_split(&hold->batch, hold->batch.sent, token_of(&hold->batch));
  lease_list_add_from(&hold->leased, &hold->batch);
  hold->lease_first = true;
}

static bool has_job_at_executor(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++)
    if (batch->jobs[i].position > 0 && batch->jobs[i].outcome == OUTCOME_NONE)
      return true;
  return false;
}

/* Running: settles when all outcomes are known; fetches the next large job's data when the executor is free for it. */
void hold_go_on(struct hold *hold) {
  if (hold->state == HOLD_IDLE)
    hold_proceed(hold);
  if (hold->state != HOLD_RUNNING || hold->fetching)
    return;
  if (hold->batch.open == 0) {
    hold_settle(hold);
    return;
  }
  int large = batch_next_large(&hold->batch);
  if (large < 0 || has_job_at_executor(&hold->batch))
    return;
  struct parameters parameters = {0};
  parameters_add_i64(&parameters, hold->batch.jobs[large].id);
  connection_send(hold->connection, STATEMENT_DATA, &parameters);
  connection_sync(hold->connection);
  parameters_free(&parameters);
  hold->fetching = true;
  hold->large = large;
}

/* The jobs of the batch that have not begun go back, those that have are leased: in the settle that follows. */
static void split(struct hold *hold) {
  int open = hold->batch.open;
  uint32_t begun = child_revoke(hold->child, hold->batch.number);
  int unbegun = child_is_alive(hold->child) ? batch_count_unbegun(&hold->batch, begun) : 0;
  if (unbegun > 0) /* those that wait for others to end come back at once */
    child_recall(hold->child, hold->batch.number, QUEUE_ALL);
  hold->owed += unbegun;
  int leases = batch_split(&hold->batch, begun, token_of(&hold->batch));
  lease_list_add_from(&hold->leased, &hold->batch);
  hold->released = hold->released || leases < open;
}

static bool is_over(const struct hold *hold, const struct lease *lease) {
  int64_t id, ran_ms, lost_ms = clock_ms() - lease->lost_ms;
  if (!lease->lost || lease->job.outcome != OUTCOME_NONE || lost_ms < LOST_MS)
    return false;
  bool current = child_current(hold->child, &id, &ran_ms) && id == lease->job.id;
  return lost_ms >= LOST_MOST_MS || (current && child_busy_ms(hold->child) >= LOST_MS);
}

static void check_lost(struct hold *hold) {
  for (int i = 0; i < hold->leased.count; i++)
    if (is_over(hold, &hold->leased.items[i]))
      child_kill(hold->child, hold->leased.items[i].cancelled ? "was killed: it ran a job that was cancelled"
                                                              : "was killed: it ran a job whose lease was lost");
}

/*
 * Jobs that were leased before they began, and have not begun within `most_ms`, go back: something else keeps their
 * executor busy. Those of earlier batches cannot begin any more.
 */
static void give_back_leased(struct hold *hold, int64_t most_ms) {
  bool found = false;
  int64_t now_ms = clock_ms();
  for (int i = 0; i < hold->leased.count && !hold->lease_first; i++) {
    struct lease *lease = &hold->leased.items[i];
    if (lease->job.outcome != OUTCOME_NONE || now_ms - lease->since_ms < most_ms ||
        child_has_begun(hold->child, lease->batch, lease->job.position))
      continue;
    if (lease->batch == hold->batch.number)
      child_revoke(hold->child, lease->batch);
    if (child_has_begun(hold->child, lease->batch, lease->job.position)) /* in between */
      continue;
    lease->job.outcome = OUTCOME_UNRUN;
    hold->owed++;
    found = true;
  }
  if (!found)
    return;
  hold->released = true;
  hold_go_on(hold);
}

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

/* A large job's data comes from the server, or goes to the executor: its time has not begun. */
static bool is_bringing_data(struct hold *hold) {
  if (hold->fetching)
    return true;
  if (hold->large < 0 || hold->large >= hold->batch.count || clock_ms() - hold->running_since_ms > BRING_MS)
    return false;
  const struct job *job = &hold->batch.jobs[hold->large];
  return job->outcome == OUTCOME_NONE && job->position > child_begun(hold->child, hold->batch.number);
}

void hold_give_back(struct hold *hold) {
  if (hold->state != HOLD_RUNNING || hold->batch.open == 0 || is_bringing_data(hold))
    return;
  split(hold);
  hold_go_on(hold);
}

/*
 * Nothing but handlers that wait: the jobs are leased, so that the hold is free for others. It has to be seen twice:
 * before the first time there may be outcomes that have come, and have not been read.
 */
static bool park(struct hold *hold, int64_t ran_ms) {
  bool all_begun = child_begun(hold->child, hold->batch.number) >= hold->batch.sent;
  bool parked = child_is_parked(hold->child) && ran_ms >= (all_begun ? PARK_MS : PARK_FULL_MS);
  bool again = parked && hold->parked_batch == hold->batch.number;
  hold->parked_batch = parked ? hold->batch.number : 0;
  if (!again)
    return false;
  int jobs = hold->batch.open;
  split(hold);
  batch_park(&hold->batch, ran_ms * 1000 / jobs);
  hold_go_on(hold);
  return true;
}

static void check_hold(struct hold *hold) {
  if (hold->state != HOLD_RUNNING || hold->batch.open == 0 || is_bringing_data(hold))
    return;
  int64_t ran_ms = clock_ms() - hold->running_since_ms;
  if (park(hold, ran_ms) || ran_ms < hold->start.options->hold_limit_ms)
    return;
  bool stuck = child_busy_ms(hold->child) >= STUCK_MS;
  hold_give_back(hold);
  if (stuck)
    hold->start.events->blocked(hold->start.owner, hold);
}

void hold_on_watch(uv_timer_t *timer) {
  struct hold *hold = timer->data;
  if (hold->state != HOLD_RUNNING && hold->leased.count == 0 && !hold->refused) {
    uv_timer_stop(timer);
    return;
  }
  check_time_limit(hold);
  if (hold->ticks++ % PROCESS_TICKS == 0) {
    child_watch(hold->child);
    check_lost(hold);
    give_back_leased(hold, hold->start.options->hold_limit_ms);
  }
  check_hold(hold);
  if (hold->refused && hold->state == HOLD_IDLE && child_busy_ms(hold->child) < STUCK_MS)
    hold_proceed(hold); /* a handler that kept the executor to itself waits by now */
}

/* The careful job has its lease now: it may run, if there still is an executor for it. */
void hold_send_leased(struct hold *hold) {
  if (!hold->lease_first)
    return;
  hold->lease_first = false;
  if (!lease_list_has(&hold->leased, hold->batch.number) || !child_is_ready(hold->child) || hold->stopping) {
    buffer_free(&hold->out);
    lease_list_give_back(&hold->leased, hold->batch.number);
    return;
  }
  child_begin_batch(hold->child, hold->batch.number);
  child_send(hold->child, &hold->out);
}

/*
 * Jobs that are leased first have not been sent: no lease is wanted. One that was written is given back, and whether it
 * was may not be known, since the answer to the COMMIT was lost: then its token tells.
 */
static void forget_lease_first(struct hold *hold) {
  hold->lease_first = false;
  for (int i = 0; i < hold->settling.count; i++) {
    struct job *job = &hold->settling.jobs[i];
    if (job->outcome != OUTCOME_LEASE)
      continue;
    lease_list_drop(&hold->leased, job->id);
    job->outcome = OUTCOME_UNRUN;
  }
  lease_list_give_back(&hold->leased, hold->batch.number);
}

/* Outcomes nobody has written are kept; what runs is to be leased as soon as its row can be locked again. */
void hold_keep_for_rescue(struct hold *hold) {
  if (hold->batch.open > 0) {
    split(hold);
    hold->released = false;
  }
  if (hold->lease_first)
    forget_lease_first(hold);
  hold->fetching = hold->nothing = false;
  hold->look = (struct hold_look){.wait_ms = -1};
  buffer_free(&hold->out);
  rescue_keep(&hold->rescue, &hold->settling);
  rescue_keep(&hold->rescue, &hold->batch);
}

/* What an outcome tells about its queue. */
static void learn(struct hold *hold, const struct job *job) {
  if (job->outcome == OUTCOME_UNRUN && job->queue->concurrency > 0) /* as many as may wait: it could not begin */
    queue_saw_parked(job->queue);
  if (job->outcome == OUTCOME_COMPLETE || job->outcome == OUTCOME_SETTLED)
    queue_succeeded(job->queue);
  if (!job->backoff)
    return;
  int64_t pause_ms = queue_back_off(job->queue, clock_ms());
  if (pause_ms == 0)
    return;
  log_warn("queue backs off", LOG_T("queue", job->queue->name), LOG_I("job", job->id), LOG_T("error", job->error),
           LOG_US("pause", pause_ms * 1000));
  hold->start.events->backed_off(hold->start.owner, job->queue);
}

/* Of a job that was given back: too late to matter, but the executor has come to where it was. */
static bool take_late(struct hold *hold, bool possible) {
  hold->owed -= hold->owed > 0;
  return possible;
}

bool hold_outcome(struct hold *hold, const struct job_outcome *outcome) {
  const struct job *job = lease_list_end(&hold->leased, outcome);
  if (!job) {
    if (outcome->batch != hold->batch.number || hold->state != HOLD_RUNNING || hold->batch.open == 0)
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
  hold->owed = 0;
  lease_list_child_died(&hold->leased, death);
  if (hold->state == HOLD_RUNNING) {
    if (death->culprit)
      batch_fail_job(&hold->batch, death);
    else if (death->cause)
      batch_child_died(&hold->batch, child_begun(hold->child, hold->batch.number), death);
    batch_release(&hold->batch, NULL, false);
  }
  hold_go_on(hold);
}

void hold_recall(struct hold *hold, const struct queue *queue) {
  uint32_t index = QUEUE_ALL;
  if (!queue)
    give_back_leased(hold, 0);
  if (hold->state != HOLD_RUNNING || (queue && !batch_has_open(&hold->batch, queue, &index)))
    return;
  batch_release(&hold->batch, queue, true);
  child_recall(hold->child, hold->batch.number, index);
}

void hold_stop(struct hold *hold) {
  hold->stopping = true;
  hold_recall(hold, NULL);
  if (hold->state != HOLD_RUNNING)
    return;
  hold_go_on(hold);
}

int hold_lease_count(const struct hold *hold) {
  return hold->leased.count;
}

int hold_leases(const struct hold *hold, int64_t *ids, int64_t *tokens, int64_t *lasts) {
  int count = 0;
  for (int i = 0; i < hold->leased.count; i++) {
    const struct lease *lease = &hold->leased.items[i];
    bool transactional = lease->job.queue->transactional;
    if (lease->lost || (transactional && lease->job.outcome != OUTCOME_NONE) ||
        batch_has_unwritten_lease(&hold->rescue.jobs, lease->job.id) ||
        batch_has_unwritten_lease(&hold->settling, lease->job.id))
      continue;
    lasts[count] = transactional ? 0 : hold->start.options->lease_ms;
    ids[count] = lease->job.id;
    tokens[count++] = lease->job.lease;
  }
  return count;
}

void hold_lease_lost(struct hold *hold, int64_t id) {
  if (lease_list_miss(&hold->leased, id)) /* its handler may just have completed it */
    return;
  const struct lease *lease = lease_list_lose(&hold->leased, id);
  if (!lease)
    return;
  log_warn("lease lost: the job is somebody else's", LOG_T("hold", hold->name), LOG_I("job", id),
           LOG_I("lost_so_far", ++hold->leases_lost));
  child_cancel(hold->child, lease->batch, lease->index);
  hold_start_watch(hold);
}

void hold_cancel(struct hold *hold, int64_t id) {
  struct lease *lease = lease_list_lose(&hold->leased, id);
  if (!lease)
    return;
  lease->cancelled = true;
  child_cancel(hold->child, lease->batch, lease->index);
  hold_start_watch(hold);
}
