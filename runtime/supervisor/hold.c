#include "hold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "clock.h"
#include "connection.h"
#include "duration.h"
#include "lease.h"
#include "log.h"
#include "memory.h"
#include "rescue.h"
#include "trouble.h"

/* A claim takes at most this many jobs. */
enum { CLAIM_MOST = 1000 };

/* How often running jobs are looked at, and how long one may go on whose lease is lost. */
enum { WATCH_MS = 100, LOST_MS = 1000 };

/* How long a large job's data may take to the executor. */
enum { BRING_MS = 30000 };

/* The server ends a session whose transaction has been idle for this long beyond the hold limit. */
enum { IDLE_MARGIN_MS = 2000 };

enum state {
  STATE_DOWN,     /* no session */
  STATE_IDLE,     /* a session, no transaction */
  STATE_CLAIMING, /* a claim is under way; behind the settling of the batch before, if there was one */
  STATE_RUNNING,  /* jobs are with the executor, the transaction holds them */
  STATE_CLOSING,  /* the transaction is being ended, without a new claim */
  STATE_LOCKING,  /* jobs to be rescued are being locked */
  STATE_UNDOING,  /* the transaction of an act that failed is being rolled back */
};

struct hold {
  char *name;
  struct hold_start start;
  struct connection *connection;
  struct child *child;
  enum state state;
  bool stopping;
  int64_t careful_until_ms;

  struct claim claim;
  struct batch batch;       /* claimed, running; locked by the transaction */
  struct batch settling;    /* their outcomes are on their way to the server */
  struct lease_list leased; /* running on, without a transaction */
  struct rescue rescue;     /* outcomes that could not be written */

  struct buffer out;     /* a frame of jobs, sent when the act has ended well */
  bool lease_first;      /* the job in it is being leased: it is sent when it is */
  bool fetching;         /* the data of a large job is under way */
  int large;             /* which one; then it is on its way to the executor */
  bool looked, released; /* this act asked when the next job falls due; it gave jobs back */
  bool found_nothing;    /* it ends a claim without jobs */
  struct hold_look look; /* what came back */
  struct trouble trouble;
  uv_timer_t watch;
  int64_t running_since_ms;
};

static void on_up(void *owner);
static void on_down(void *owner, const char *reason);
static void on_result(void *owner, enum statement statement, PGresult *result);
static void on_synced(void *owner);
static void on_watch(uv_timer_t *timer);
static void proceed(struct hold *hold);

static const struct connection_events connection_events = {on_up, on_down, on_result, on_synced};

struct hold *hold_new(const char *name, const struct hold_start *start) {
  struct hold *hold = memory_new(sizeof *hold);
  const struct options *options = start->options;
  *hold = (struct hold){.name = memory_text(name), .start = *start, .child = start->child};
  hold->connection =
      connection_new(start->loop, name, options->db, options->hold_limit_ms + IDLE_MARGIN_MS, &connection_events, hold);
  trouble_init(&hold->trouble, start->loop, hold);
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

void hold_free(struct hold *hold) {
  if (!hold)
    return;
  connection_free(hold->connection);
  trouble_close(&hold->trouble);
  uv_close((uv_handle_t *)&hold->watch, free_hold);
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

bool hold_is_asleep(const struct hold *hold) {
  return hold->state == STATE_IDLE && hold->leased.count == 0 && hold->rescue.jobs.count == 0;
}

bool hold_is_at_rest(const struct hold *hold) {
  return hold_is_asleep(hold) || (hold->state == STATE_DOWN && hold->leased.count == 0 && hold->rescue.jobs.count == 0);
}

/* ── acts: what is sent ── */

static void send_statement(void *context, enum statement statement, const struct parameters *parameters) {
  struct hold *hold = context;
  connection_send(hold->connection, statement, parameters);
}

static bool is_careful(const struct hold *hold) {
  return clock_ms() < hold->careful_until_ms;
}

/* The executor has room for jobs, and there is a queue to ask. Chooses the queues. */
static bool may_claim(struct hold *hold) {
  return !hold->stopping && child_is_ready(hold->child) && lease_list_busy(&hold->leased) == 0 &&
         claim_choose(&hold->claim);
}

static void send_claim(struct hold *hold) {
  struct parameters parameters = {0};
  claim_parameters(&hold->claim, is_careful(hold) ? 1 : CLAIM_MOST, &parameters);
  connection_send(hold->connection, STATEMENT_BEGIN, NULL);
  connection_send(hold->connection, STATEMENT_CLAIM, &parameters);
  parameters_free(&parameters);
  hold->state = STATE_CLAIMING;
}

static void send_look(struct hold *hold) {
  struct parameters parameters = {0};
  hold->state = STATE_CLOSING;
  if (hold->stopping || lease_list_busy(&hold->leased) > 0)
    return;
  look_parameters(&hold->claim, &parameters);
  connection_send(hold->connection, STATEMENT_LOOK, &parameters);
  parameters_free(&parameters);
  hold->looked = true;
}

/* In a transaction: writes all outcomes that are known, commits, and claims again in the same round trip. */
static void settle(struct hold *hold) {
  batch_learn(&hold->batch);
  batch_move(&hold->settling, &hold->batch);
  if (!hold->rescue.singly)
    lease_list_collect(&hold->leased, &hold->settling);
  if (!connection_is_unicode(hold->connection))
    batch_make_ascii(&hold->settling);
  batch_settle(&hold->settling, hold->start.options->lease_ms, send_statement, hold);
  connection_send(hold->connection, STATEMENT_COMMIT, NULL);
  if (hold->rescue.jobs.count == 0 && hold->out.length == 0 && may_claim(hold))
    send_claim(hold);
  else
    send_look(hold);
  connection_sync(hold->connection);
}

/* The claim found nothing: end its transaction, and ask how long one may sleep. */
static void close_and_look(struct hold *hold) {
  hold->found_nothing = true;
  connection_send(hold->connection, STATEMENT_COMMIT, NULL);
  send_look(hold);
  connection_sync(hold->connection);
}

static void lose_lease(void *context, int64_t id) {
  hold_lease_lost(context, id);
}

/* Locks the jobs to be rescued where nobody else has had them since. */
static void lock_rescue(struct hold *hold) {
  struct parameters parameters = {0};
  rescue_next(&hold->rescue, &hold->settling, &parameters);
  hold->state = STATE_LOCKING;
  connection_send(hold->connection, STATEMENT_BEGIN, NULL);
  connection_send(hold->connection, STATEMENT_RELOCK, &parameters);
  connection_sync(hold->connection);
  parameters_free(&parameters);
}

/* Idle: whatever is to be done next. */
static void proceed(struct hold *hold) {
  if (hold->state != STATE_IDLE || trouble_is_waiting(&hold->trouble))
    return;
  if (hold->rescue.jobs.count > 0) {
    lock_rescue(hold);
  } else if (lease_list_ended(&hold->leased) > 0) {
    connection_send(hold->connection, STATEMENT_BEGIN, NULL);
    settle(hold);
  } else if (!hold_wake(hold)) {
    if (!hold->stopping) /* somebody has to look again when a pause ends */
      hold->start.events->slept(hold->start.owner, &(struct hold_look){.wait_ms = -1});
    hold->start.events->rested(hold->start.owner);
  }
}

bool hold_wake(struct hold *hold) {
  if (!hold_is_asleep(hold) || trouble_is_waiting(&hold->trouble) || !may_claim(hold))
    return false;
  send_claim(hold);
  connection_sync(hold->connection);
  return true;
}

/* ── running jobs ── */

static void start_watch(struct hold *hold) {
  if (!uv_is_active((uv_handle_t *)&hold->watch))
    uv_timer_start(&hold->watch, on_watch, WATCH_MS, WATCH_MS);
}

/* Jobs go to the executor; in careful times they are leased first, so that what they do to all of us is known. */
static void dispatch(struct hold *hold) {
  if (hold->out.length == 0)
    return;
  start_watch(hold);
  if (!is_careful(hold)) {
    child_begin_batch(hold->child, hold->batch.number);
    child_send(hold->child, &hold->out);
    return;
  }
  batch_split(&hold->batch, hold->batch.sent, lease_token(hold->batch.count));
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
static void go_on(struct hold *hold) {
  if (hold->state == STATE_IDLE)
    proceed(hold);
  if (hold->state != STATE_RUNNING || hold->fetching)
    return;
  if (hold->batch.open == 0) {
    settle(hold);
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
  uint32_t begun = child_revoke(hold->child, hold->batch.number);
  batch_split(&hold->batch, begun, lease_token(hold->batch.count));
  lease_list_add_from(&hold->leased, &hold->batch);
  hold->released = true;
}

static void check_lost(struct hold *hold) {
  for (int i = 0; i < hold->leased.count; i++) {
    const struct lease *lease = &hold->leased.items[i];
    if (lease->lost && lease->job.outcome == OUTCOME_NONE && clock_ms() - lease->lost_ms >= LOST_MS)
      child_kill(hold->child, "was killed: it ran a job whose lease was lost");
  }
}

static void check_time_limit(struct hold *hold) {
  int64_t id, ran_ms;
  if (!child_current(hold->child, &id, &ran_ms))
    return;
  const struct job *job = batch_find(&hold->batch, id);
  job = job ? job : lease_list_find(&hold->leased, id);
  if (!job || job->queue->timeout_ms == 0 || ran_ms < job->queue->timeout_ms)
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

static void on_watch(uv_timer_t *timer) {
  struct hold *hold = timer->data;
  if (hold->state != STATE_RUNNING && hold->leased.count == 0) {
    uv_timer_stop(timer);
    return;
  }
  child_watch(hold->child);
  check_time_limit(hold);
  check_lost(hold);
  if (hold->state == STATE_RUNNING && hold->batch.open > 0 && !is_bringing_data(hold) &&
      clock_ms() - hold->running_since_ms >= hold->start.options->hold_limit_ms) {
    split(hold);
    go_on(hold);
  }
}

/* ── what comes back ── */

static void take_claim(struct hold *hold, const PGresult *result) {
  if (PQntuples(result) == 0)
    return;
  batch_take(&hold->batch, result, hold->claim.asked, hold->claim.asked_index);
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
      trouble_note(&hold->trouble, result);
    return;
  }
  switch (statement) {
  case STATEMENT_COMMIT:
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
    hold->look = look_take(&hold->claim, result);
    break;
  default:
    batch_written(&hold->settling, statement, result);
  }
}

/* The claim is back: its jobs go to the executor, if that is still there and wanted. */
static void end_claim(struct hold *hold) {
  if (hold->batch.count == 0) {
    close_and_look(hold);
    return;
  }
  hold->state = STATE_RUNNING;
  hold->running_since_ms = clock_ms();
  hold->large = -1;
  if (hold->stopping || hold->claim.stale || !child_is_ready(hold->child)) {
    buffer_free(&hold->out);
    batch_release(&hold->batch, NULL, false);
  } else {
    dispatch(hold);
    hold->start.events->more(hold->start.owner);
  }
  go_on(hold);
}

/* The careful job has its lease now: it may run, if there still is an executor for it. */
static void send_leased(struct hold *hold) {
  if (!hold->lease_first)
    return;
  hold->lease_first = false;
  if (lease_list_busy(&hold->leased) == 0 || !child_is_ready(hold->child)) {
    buffer_free(&hold->out);
    lease_list_give_back(&hold->leased);
    return;
  }
  child_begin_batch(hold->child, hold->batch.number);
  child_send(hold->child, &hold->out);
}

static void end_closing(struct hold *hold) {
  struct hold_look look = hold->look;
  bool looked = hold->looked, released = hold->released;
  look.after_claim = hold->found_nothing;
  hold->looked = hold->released = hold->found_nothing = false;
  hold->state = STATE_IDLE;
  send_leased(hold);
  if (released)
    hold->start.events->more(hold->start.owner);
  if (hold->rescue.jobs.count > 0 || lease_list_ended(&hold->leased) > 0)
    proceed(hold);
  else if (looked && !hold->stopping)
    hold->start.events->slept(hold->start.owner, &look);
  hold->start.events->rested(hold->start.owner);
}

/* A careful job has not been sent: no lease is wanted, and one that was written already is given back. */
static void forget_lease_first(struct hold *hold) {
  hold->lease_first = false;
  for (int i = 0; i < hold->settling.count; i++) {
    struct job *job = &hold->settling.jobs[i];
    if (job->outcome != OUTCOME_LEASE)
      continue;
    lease_list_drop(&hold->leased, job->id);
    job->outcome = OUTCOME_UNRUN;
    job->lease = 0;
  }
  lease_list_give_back(&hold->leased);
}

/* Outcomes nobody has written are kept; what runs is to be leased as soon as its row can be locked again. */
static void keep_for_rescue(struct hold *hold) {
  if (hold->batch.open > 0) {
    split(hold);
    hold->released = false;
  }
  if (hold->lease_first)
    forget_lease_first(hold);
  hold->fetching = hold->looked = hold->found_nothing = false;
  buffer_free(&hold->out);
  rescue_keep(&hold->rescue, &hold->settling);
  rescue_keep(&hold->rescue, &hold->batch);
}

/* An act failed, and the session has survived it: nothing of the act was done. */
static void undo(struct hold *hold) {
  if (trouble_is_content(&hold->trouble)) {
    if (hold->rescue.singly && hold->settling.count == 1)
      rescue_blame(&hold->settling, trouble_message(&hold->trouble), lose_lease, hold);
    hold->rescue.singly = true;
  }
  bool content = trouble_is_content(&hold->trouble);
  keep_for_rescue(hold);
  trouble_begin(&hold->trouble, hold->name, !(content && hold->rescue.jobs.count > 0));
  hold->state = STATE_UNDOING;
  connection_send(hold->connection, STATEMENT_ROLLBACK, NULL);
  connection_sync(hold->connection);
}

static void on_synced(void *owner) {
  struct hold *hold = owner;
  if (trouble_is_noted(&hold->trouble)) {
    if (hold->state == STATE_UNDOING || trouble_is_of_session(&hold->trouble))
      connection_fail(hold->connection, trouble_message(&hold->trouble));
    else
      undo(hold);
    return;
  }
  if (hold->state != STATE_UNDOING && hold->state != STATE_LOCKING)
    trouble_over(&hold->trouble);
  switch (hold->state) {
  case STATE_CLAIMING:
    end_claim(hold);
    break;
  case STATE_RUNNING:
    hold->fetching = false;
    hold->running_since_ms = clock_ms();
    if (hold->batch.open > 0)
      dispatch(hold);
    go_on(hold);
    break;
  case STATE_LOCKING:
    rescue_drop_unlocked(&hold->settling, lose_lease, hold);
    settle(hold);
    break;
  case STATE_CLOSING:
    end_closing(hold);
    break;
  default:
    hold->state = STATE_IDLE;
    proceed(hold);
  }
}

void hold_trouble_over(void *owner) {
  proceed(owner);
}

static void on_up(void *owner) {
  struct hold *hold = owner;
  hold->state = STATE_IDLE;
  proceed(hold);
}

static void on_down(void *owner, const char *reason) {
  struct hold *hold = owner;
  int jobs = hold->batch.count + hold->settling.count;
  (void)reason;
  keep_for_rescue(hold);
  trouble_forget(&hold->trouble);
  if (jobs > 0)
    log_warn("a hold was lost: its jobs are due again", LOG_T("hold", hold->name), LOG_I("jobs", jobs),
             LOG_I("to_rescue", hold->rescue.jobs.count));
  hold->state = STATE_DOWN;
  hold->start.events->rested(hold->start.owner);
}

/* What an outcome tells about its queue. */
static void learn(struct hold *hold, const struct job *job) {
  if (job->outcome == OUTCOME_COMPLETE)
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

bool hold_outcome(struct hold *hold, const struct child_outcome *outcome) {
  const struct job *job = lease_list_end(&hold->leased, outcome);
  if (!job) {
    if (outcome->batch != hold->batch.number || hold->state != STATE_RUNNING || hold->batch.open == 0)
      return outcome->batch <= hold->batch.number; /* of a job that was given back: too late to matter */
    if (!batch_end_job(&hold->batch, outcome->index, outcome))
      return outcome->outcome == OUTCOME_UNRUN;
    job = &hold->batch.jobs[outcome->index];
  }
  learn(hold, job);
  return true;
}

void hold_outcomes_end(struct hold *hold) {
  go_on(hold);
}

void hold_child_died(struct hold *hold, int64_t culprit, const char *cause) {
  lease_list_child_died(&hold->leased, culprit, cause);
  if (hold->state == STATE_RUNNING) {
    if (culprit)
      batch_fail_job(&hold->batch, culprit, cause);
    else if (cause)
      batch_child_died(&hold->batch, child_begun(hold->child, hold->batch.number), cause);
    batch_release(&hold->batch, NULL, false);
  }
  go_on(hold);
}

void hold_recall(struct hold *hold, const struct queue *queue) {
  uint32_t index = QUEUE_ALL;
  if (hold->state != STATE_RUNNING || (queue && !batch_has_open(&hold->batch, queue, &index)))
    return;
  batch_release(&hold->batch, queue, true);
  child_recall(hold->child, hold->batch.number, index);
}

void hold_stop(struct hold *hold) {
  hold->stopping = true;
  if (hold->state != STATE_RUNNING)
    return;
  hold_recall(hold, NULL);
  go_on(hold);
}

int hold_lease_count(const struct hold *hold) {
  return hold->leased.count;
}

int hold_leases(const struct hold *hold, int64_t *ids, int64_t *tokens, int most) {
  int count = 0;
  for (int i = 0; i < hold->leased.count && count < most; i++) {
    const struct lease *lease = &hold->leased.items[i];
    if (lease->lost || batch_has_unwritten_lease(&hold->rescue.jobs, lease->job.id) ||
        batch_has_unwritten_lease(&hold->settling, lease->job.id))
      continue;
    ids[count] = lease->job.id;
    tokens[count++] = lease->job.lease;
  }
  return count;
}

void hold_lease_lost(struct hold *hold, int64_t id) {
  if (!lease_list_lose(&hold->leased, id))
    return;
  log_warn("lease lost: the job is somebody else's", LOG_T("hold", hold->name), LOG_I("job", id));
  start_watch(hold);
}
