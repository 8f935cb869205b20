/* The part of hold.h about leased jobs: they run on without a transaction, and only their token writes their row. */
#include "hold_state.h"

#include "clock.h"
#include "log.h"
#include "token.h"

/* How long the handler of a lost lease may run without a wait, and how long it may run in total. */
enum { LOST_BUSY_MS = 1000, LOST_MS = 10000 };

int64_t hold_token(const struct hold *hold) {
  return hold->batch.token ? hold->batch.token : token_next(hold->batch.count);
}

bool hold_has_leased(const struct hold *hold) {
  return lease_list_busy(&hold->leased) > 0;
}

bool hold_may_settle_leased(const struct hold *hold) {
  if (hold->rescue.singly)
    return false;
  for (int i = 0; hold->rescue.locked && i < hold->rescue.jobs.count; i++)
    if (hold->rescue.jobs.jobs[i].outcome == OUTCOME_LEASE)
      return false;
  return true;
}

bool hold_has_ended_leased(const struct hold *hold) {
  return lease_list_ended(&hold->leased) > 0 && hold_may_settle_leased(hold);
}

int hold_lease_count(const struct hold *hold) {
  return hold->leased.count;
}

int hold_leases(const struct hold *hold, int64_t *ids, int64_t *tokens, int64_t *lasts_ms) {
  int count = 0;
  for (int i = 0; i < hold->leased.count; i++) {
    const struct lease *lease = &hold->leased.items[i];
    bool transactional = lease->job.transactional;
    if (lease->lost || (transactional && lease->job.outcome != OUTCOME_NONE) ||
        batch_has_unwritten_lease(&hold->rescue.jobs, lease->job.id) ||
        batch_has_unwritten_lease(&hold->refused.jobs, lease->job.id) ||
        batch_has_unwritten_lease(&hold->settling, lease->job.id))
      continue;
    lasts_ms[count] = transactional ? 0 : hold->start.options->lease_ms;
    ids[count] = lease->job.id;
    tokens[count++] = lease->job.lease;
  }
  return count;
}

bool hold_lease_has_begun(const struct hold *hold, const struct lease *lease) {
  return child_has_begun(hold->child, lease->batch, lease->job.position);
}

/* ── leases that are lost ── */

void hold_lease_lost(struct hold *hold, int64_t id) {
  if (lease_list_miss(&hold->leased, id)) /* the handler may just have completed the job */
    return;
  const struct lease *lease = lease_list_lose(&hold->leased, id, false);
  if (!lease)
    return;
  log_warn("lease lost: the job no longer belongs to this worker", LOG_T("hold", hold->name), LOG_I("job", id),
           LOG_I("lost_so_far", ++hold->leases_lost));
  hold->start.counts->leases_lost++;
  child_cancel(hold->child, lease->batch, lease->index);
  hold_start_checks(hold);
}

bool hold_has_lease(const struct hold *hold, int64_t id) {
  return lease_list_find(&hold->leased, id) != NULL;
}

void hold_cancel(struct hold *hold, int64_t id) {
  const struct lease *lease = lease_list_lose(&hold->leased, id, true);
  if (!lease)
    return;
  child_cancel(hold->child, lease->batch, lease->index);
  hold_start_checks(hold);
}

/* Whether the handler of a lost lease has not ended in time. */
static bool must_be_killed(const struct hold *hold, const struct lease *lease) {
  int64_t id, ran_ms, lost_ms = clock_ms() - lease->lost_ms;
  if (!lease->lost || lease->job.outcome != OUTCOME_NONE || lost_ms < LOST_BUSY_MS)
    return false;
  bool current = child_current(hold->child, &id, &ran_ms) && id == lease->job.id;
  return lost_ms >= LOST_MS || (current && child_busy_ms(hold->child) >= LOST_BUSY_MS);
}

void hold_kill_stuck_lost(struct hold *hold) {
  for (int i = 0; i < hold->leased.count; i++)
    if (must_be_killed(hold, &hold->leased.items[i]))
      child_kill(hold->child, hold->leased.items[i].cancelled ? "was killed: it ran a job that was cancelled"
                                                              : "was killed: it ran a job whose lease was lost");
}

/* ── jobs that are leased before they run ── */

/*
 * Leased jobs that have not begun in time go back: other jobs keep their executor busy. Those of earlier batches cannot
 * begin any more, since a newer batch of the same hold has begun.
 */
void hold_give_back_unbegun_leased(struct hold *hold, int64_t most_ms) {
  bool found = false;
  int64_t now_ms = clock_ms();
  if (hold->state == HOLD_LEASING) /* they have not been sent yet */
    return;
  for (int i = 0; i < hold->leased.count; i++) {
    struct lease *lease = &hold->leased.items[i];
    if (lease->job.outcome != OUTCOME_NONE || now_ms - lease->since_ms < most_ms ||
        child_has_begun(hold->child, lease->batch, lease->job.position))
      continue;
    if (lease->batch == hold->batch.number)
      child_revoke(hold->child, lease->batch);
    if (child_has_begun(hold->child, lease->batch, lease->job.position)) /* the job has begun meanwhile */
      continue;
    lease->job.outcome = OUTCOME_UNRUN;
    hold->unacknowledged++;
    found = true;
  }
  if (!found)
    return;
  hold->gave_back = true;
  hold_go_on(hold);
}

void hold_recall_leased(struct hold *hold, const struct queue *queue) {
  uint32_t last = 0; /* the batch that was recalled last; 0 is none */
  for (int i = 0; i < hold->leased.count; i++) {
    const struct lease *lease = &hold->leased.items[i];
    bool unsent = hold->state == HOLD_LEASING && lease->batch == hold->batch.number;
    if (lease->job.queue != queue || lease->job.outcome != OUTCOME_NONE || lease->batch == last || unsent ||
        hold_lease_has_begun(hold, lease))
      continue;
    last = lease->batch;
    child_recall(hold->child, lease->batch, lease->job.queue_index);
  }
}

void hold_send_leased(struct hold *hold) {
  if (!lease_list_has(&hold->leased, hold->batch.number) || !child_is_ready(hold->child) || hold->stopping) {
    buffer_free(&hold->out);
    lease_list_give_back(&hold->leased, hold->batch.number);
    return;
  }
  child_begin_batch(hold->child, hold->batch.number);
  child_send(hold->child, &hold->out);
  hold_recall_paused(hold);
}

/*
 * The jobs have not been sent, so no lease is wanted. Whether a lease was written may be unknown, because the answer to
 * the COMMIT was lost: then the token in the row shows it, and the lease is given back.
 */
static void forget_leases_being_written(struct hold *hold) {
  for (int i = 0; i < hold->settling.count; i++) {
    struct job *job = &hold->settling.jobs[i];
    if (job->outcome != OUTCOME_LEASE)
      continue;
    lease_list_drop(&hold->leased, job->id);
    job->outcome = OUTCOME_UNRUN;
  }
  lease_list_give_back(&hold->leased, hold->batch.number);
}

void hold_forget_ignored_leases(struct hold *hold) {
  bool found = false;
  for (int i = 0; i < hold->settling.count; i++) {
    struct job *job = &hold->settling.jobs[i];
    if (job->outcome != OUTCOME_LEASE || job->written)
      continue;
    lease_list_drop(&hold->leased, job->id);
    job->outcome = OUTCOME_UNRUN;
    job->leased = false;
    job->ignored = 1;
    refused_keep_unrun(&hold->refused, job);
    job->ignored = 0;
    found = true;
  }
  if (found)
    lease_list_give_back(&hold->leased, hold->batch.number);
}

/* Jobs in a frame that was not sent yet: the executor will not acknowledge that they go back. */
static void forget_unsent(struct hold *hold) {
  if (hold->state == HOLD_CLAIMING)
    batch_release(&hold->batch, NULL, false);
  else if (hold->state == HOLD_FETCHING && hold->large_job < hold->batch.count)
    hold->batch.jobs[hold->large_job].position = 0;
}

void hold_keep_for_rescue(struct hold *hold) {
  if (hold->batch.open > 0) {
    forget_unsent(hold);
    hold_split(hold);
    hold->gave_back = false;
  }
  if (hold->state == HOLD_LEASING)
    forget_leases_being_written(hold);
  hold->idle = (struct idle_info){.wait_ms = -1};
  buffer_free(&hold->out);
  rescue_keep(&hold->rescue, &hold->settling);
  rescue_keep(&hold->rescue, &hold->batch);
}
