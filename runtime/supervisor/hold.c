#include "hold.h"

#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "clock.h"
#include "connection.h"
#include "log.h"
#include "memory.h"

/* A claim takes at most this many jobs, and brings along about this much data; more is fetched job by job. */
enum { CLAIM_MOST = 1000, CLAIM_BYTES = 8 << 20, CLAIM_BYTES_LEAST = 16 << 10 };

enum state {
  STATE_DOWN,     /* no session */
  STATE_IDLE,     /* a session, no transaction, no jobs */
  STATE_CLAIMING, /* a claim is under way; behind the settling of the batch before, if there was one */
  STATE_RUNNING,  /* jobs are with the executor, the transaction holds them */
  STATE_CLOSING,  /* the transaction is being ended, without a new claim */
};

struct hold {
  char *name;
  struct connection *connection;
  struct child *child;
  const struct hold_events *events;
  void *owner;
  enum state state;
  bool stopping;

  struct queue **queues; /* in the executor's order */
  uint32_t queue_count;
  uint32_t turn; /* the queue that the next claim asks first: they take turns */

  struct batch batch;    /* claimed, running */
  struct batch settling; /* its outcomes are on their way to the server */
  bool fetching;         /* the data of a large job is under way */

  /* What the claim under way asked for, and whether the executor has changed since. */
  struct queue **asked;
  uint32_t *asked_index;
  uint32_t asked_count;
  bool stale;

  struct buffer out;     /* the frame of the claim's jobs, sent when the act has ended well */
  bool looked;           /* this act asked when the next job falls due */
  struct hold_look look; /* and this came back */
  char *error;           /* the first error of the act under way */
};

static void on_up(void *owner);
static void on_down(void *owner, const char *reason);
static void on_result(void *owner, enum statement statement, PGresult *result);
static void on_synced(void *owner);

static const struct connection_events connection_events = {on_up, on_down, on_result, on_synced};

struct hold *hold_new(uv_loop_t *loop, const char *name, const char *conninfo, struct child *child,
                      const struct hold_events *events, void *owner) {
  struct hold *hold = memory_new(sizeof *hold);
  *hold = (struct hold){.name = memory_text(name), .child = child, .events = events, .owner = owner};
  hold->connection = connection_new(loop, name, conninfo, true, &connection_events, hold);
  return hold;
}

static void forget_act(struct hold *hold) {
  buffer_free(&hold->out);
  free(hold->error);
  hold->error = NULL;
  hold->looked = hold->fetching = false;
  hold->look = (struct hold_look){.wait_ms = -1};
}

void hold_free(struct hold *hold) {
  if (!hold)
    return;
  connection_free(hold->connection);
  batch_clear(&hold->batch);
  batch_clear(&hold->settling);
  forget_act(hold);
  free(hold->queues);
  free(hold->asked);
  free(hold->asked_index);
  free(hold->name);
  free(hold);
}

void hold_serve(struct hold *hold, struct queue *const *queues, uint32_t count) {
  hold->queues = memory_resize(hold->queues, count * sizeof *hold->queues);
  if (count > 0)
    memcpy(hold->queues, queues, count * sizeof *hold->queues);
  hold->queue_count = count;
  hold->stale = hold->state == STATE_CLAIMING;
}

void hold_open(struct hold *hold) {
  connection_open(hold->connection);
}

bool hold_is_asleep(const struct hold *hold) {
  return hold->state == STATE_IDLE;
}

bool hold_is_at_rest(const struct hold *hold) {
  return hold->state == STATE_IDLE || hold->state == STATE_DOWN;
}

static void send_statement(void *context, enum statement statement, const struct parameters *parameters) {
  struct hold *hold = context;
  connection_send(hold->connection, statement, parameters);
}

/* Which queues may be claimed from, beginning with the one whose turn it is. */
static uint32_t choose_queues(struct hold *hold) {
  int64_t now_ms = clock_ms();
  hold->asked = memory_resize(hold->asked, hold->queue_count * sizeof *hold->asked);
  hold->asked_index = memory_resize(hold->asked_index, hold->queue_count * sizeof *hold->asked_index);
  hold->asked_count = 0;
  for (uint32_t i = 0; i < hold->queue_count; i++) {
    uint32_t index = (hold->turn + i) % hold->queue_count;
    if (queue_is_paused(hold->queues[index], now_ms))
      continue;
    hold->asked[hold->asked_count] = hold->queues[index];
    hold->asked_index[hold->asked_count++] = index;
  }
  if (hold->queue_count > 0)
    hold->turn = (hold->turn + 1) % hold->queue_count;
  return hold->asked_count;
}

static bool may_claim(struct hold *hold) {
  return !hold->stopping && child_is_ready(hold->child) && choose_queues(hold) > 0;
}

/* BEGIN and the claim from the chosen queues, into the pipeline. */
static void send_claim(struct hold *hold) {
  struct parameters parameters = {0};
  hold->stale = false;
  const char **names = memory_new(hold->asked_count * sizeof *names);
  int32_t *most = memory_new(hold->asked_count * sizeof *most);
  int32_t jobs = 0;
  for (uint32_t i = 0; i < hold->asked_count; i++) {
    names[i] = hold->asked[i]->name;
    most[i] = hold->asked[i]->batch;
    jobs = jobs + most[i] < CLAIM_MOST ? jobs + most[i] : CLAIM_MOST;
  }
  int32_t bytes = CLAIM_BYTES / jobs > CLAIM_BYTES_LEAST ? CLAIM_BYTES / jobs : CLAIM_BYTES_LEAST;
  parameters_add_text_array(&parameters, names, (int)hold->asked_count);
  parameters_add_i32_array(&parameters, most, (int)hold->asked_count);
  parameters_add_i32(&parameters, bytes);
  parameters_add_i64(&parameters, CLAIM_MOST);
  connection_send(hold->connection, STATEMENT_BEGIN, NULL);
  connection_send(hold->connection, STATEMENT_CLAIM, &parameters);
  parameters_free(&parameters);
  free(most);
  free(names);
}

static void send_look(struct hold *hold) {
  struct parameters parameters = {0};
  const char **names = memory_new(hold->queue_count * sizeof *names);
  for (uint32_t i = 0; i < hold->queue_count; i++)
    names[i] = hold->queues[i]->name;
  parameters_add_text_array(&parameters, names, (int)hold->queue_count);
  connection_send(hold->connection, STATEMENT_LOOK, &parameters);
  parameters_free(&parameters);
  free(names);
  hold->looked = true;
}

bool hold_wake(struct hold *hold) {
  if (hold->state != STATE_IDLE || !may_claim(hold))
    return false;
  hold->state = STATE_CLAIMING;
  send_claim(hold);
  connection_sync(hold->connection);
  return true;
}

/* All outcomes are known: write them, commit, and claim again in the same round trip. */
static void settle(struct hold *hold) {
  batch_learn(&hold->batch);
  hold->settling = hold->batch;
  hold->batch.jobs = NULL;
  hold->batch.count = 0;
  batch_settle(&hold->settling, send_statement, hold);
  connection_send(hold->connection, STATEMENT_COMMIT, NULL);
  if (may_claim(hold)) {
    hold->state = STATE_CLAIMING;
    send_claim(hold);
  } else {
    hold->state = STATE_CLOSING;
    if (!hold->stopping)
      send_look(hold);
  }
  connection_sync(hold->connection);
}

/* The claim found nothing: end its transaction, and ask how long one may sleep. */
static void close_and_look(struct hold *hold) {
  hold->state = STATE_CLOSING;
  connection_send(hold->connection, STATEMENT_COMMIT, NULL);
  if (!hold->stopping)
    send_look(hold);
  connection_sync(hold->connection);
}

static void go_on(struct hold *hold) {
  if (hold->state != STATE_RUNNING || hold->fetching)
    return;
  int large = batch_next_large(&hold->batch);
  if (hold->batch.open == 0) {
    settle(hold);
  } else if (large >= 0) {
    /* One at a time: the next one's data comes when this one's has been used. */
    bool alone = true;
    for (int i = 0; i < hold->batch.count; i++)
      alone = alone && !(hold->batch.jobs[i].sent && hold->batch.jobs[i].outcome == OUTCOME_NONE);
    if (!alone)
      return;
    struct parameters parameters = {0};
    parameters_add_i64(&parameters, hold->batch.jobs[large].id);
    connection_send(hold->connection, STATEMENT_DATA, &parameters);
    connection_sync(hold->connection);
    parameters_free(&parameters);
    hold->fetching = true;
  }
}

static void take_claim(struct hold *hold, const PGresult *result) {
  if (PQntuples(result) == 0)
    return;
  batch_take(&hold->batch, result, hold->asked, hold->asked_index);
  batch_send(&hold->batch, result, &hold->out);
}

static void take_data(struct hold *hold, const PGresult *result) {
  int large = batch_next_large(&hold->batch);
  if (large < 0) /* it was given back while its data was on the way */
    return;
  if (PQntuples(result) == 1)
    batch_send_large(&hold->batch, large, PQgetvalue(result, 0, 0), (size_t)PQgetlength(result, 0, 0), &hold->out);
}

static void take_look(struct hold *hold, const PGresult *result) {
  int64_t now_ms = clock_ms();
  hold->look = (struct hold_look){.wait_ms = -1};
  for (int row = 0; row < PQntuples(result); row++) {
    int64_t position = result_i64(result, row, LOOK_QUEUE);
    if (position > hold->queue_count) /* the executor has been replaced meanwhile, and has fewer queues */
      break;
    const struct queue *queue = hold->queues[position - 1];
    if (*PQgetvalue(result, row, LOOK_DUE)) {
      bool paused = queue_is_paused(queue, now_ms);
      hold->look.due_paused = hold->look.due_paused || paused;
      hold->look.due_locked = hold->look.due_locked || !paused;
    }
    if (PQgetisnull(result, row, LOOK_WAIT_MS))
      continue;
    int64_t wait_ms = result_i64(result, row, LOOK_WAIT_MS);
    if (hold->look.wait_ms < 0 || wait_ms < hold->look.wait_ms)
      hold->look.wait_ms = wait_ms;
  }
}

static void on_result(void *owner, enum statement statement, PGresult *result) {
  struct hold *hold = owner;
  if (result_is_cause(result) && !hold->error)
    hold->error = memory_text(PQresultErrorMessage(result));
  if (result_failed(result))
    return;
  switch (statement) {
  case STATEMENT_COMMIT:
    batch_log(&hold->settling);
    batch_clear(&hold->settling);
    break;
  case STATEMENT_CLAIM:
    take_claim(hold, result);
    break;
  case STATEMENT_DATA:
    take_data(hold, result);
    break;
  case STATEMENT_LOOK:
    take_look(hold, result);
    break;
  default:
    break;
  }
}

/* The claim is back: its jobs go to the executor, if that is still there and wanted. */
static void end_claim(struct hold *hold) {
  if (hold->batch.count == 0) {
    close_and_look(hold);
    return;
  }
  hold->state = STATE_RUNNING;
  if (hold->stopping || hold->stale || !child_is_ready(hold->child)) {
    buffer_free(&hold->out);
    batch_release(&hold->batch, NULL, false);
  } else {
    child_send(hold->child, &hold->out);
    hold->events->claimed(hold->owner);
  }
  go_on(hold);
}

static void end_closing(struct hold *hold) {
  struct hold_look look = hold->look;
  bool looked = hold->looked;
  hold->looked = false;
  hold->state = STATE_IDLE;
  if (looked && !hold->stopping)
    hold->events->slept(hold->owner, &look);
  hold->events->rested(hold->owner);
}

static void on_synced(void *owner) {
  struct hold *hold = owner;
  if (hold->error) {
    /* Nothing of the act was done. The jobs are due again; the session starts anew, after a wait that grows. */
    connection_fail(hold->connection, hold->error);
    return;
  }
  switch (hold->state) {
  case STATE_CLAIMING:
    end_claim(hold);
    break;
  case STATE_RUNNING:
    hold->fetching = false;
    child_send(hold->child, &hold->out);
    go_on(hold);
    break;
  case STATE_CLOSING:
    end_closing(hold);
    break;
  default:
    break;
  }
}

static void on_up(void *owner) {
  struct hold *hold = owner;
  hold->state = STATE_IDLE;
  if (!hold_wake(hold))
    hold->events->rested(hold->owner);
}

static void on_down(void *owner, const char *reason) {
  struct hold *hold = owner;
  int lost = hold->batch.count + hold->settling.count;
  (void)reason;
  if (lost > 0)
    log_warn("a hold was lost: its jobs are due again", LOG_T("hold", hold->name), LOG_I("jobs", lost));
  if (hold->batch.open > 0)
    child_recall(hold->child, hold->batch.number, QUEUE_ALL);
  batch_clear(&hold->batch);
  batch_clear(&hold->settling);
  forget_act(hold);
  hold->state = STATE_DOWN;
  hold->events->rested(hold->owner);
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
  hold->events->backed_off(hold->owner, job->queue);
}

bool hold_outcome(struct hold *hold, const struct child_outcome *outcome) {
  if (outcome->batch != hold->batch.number || hold->state != STATE_RUNNING)
    return outcome->batch <= hold->batch.number; /* of a batch that was lost: too late to matter */
  if (!batch_end_job(&hold->batch, outcome->index, outcome))
    return false;
  learn(hold, &hold->batch.jobs[outcome->index]);
  return true;
}

void hold_outcomes_end(struct hold *hold) {
  go_on(hold);
}

void hold_child_died(struct hold *hold, int64_t culprit, const char *cause) {
  if (hold->state != STATE_RUNNING)
    return;
  if (culprit)
    batch_fail_job(&hold->batch, culprit, cause);
  batch_release(&hold->batch, NULL, false);
  go_on(hold);
}

void hold_recall(struct hold *hold, const struct queue *queue) {
  uint32_t index;
  if (hold->state != STATE_RUNNING || !batch_has_open(&hold->batch, queue, &index))
    return;
  batch_release(&hold->batch, queue, true);
  child_recall(hold->child, hold->batch.number, index);
}

void hold_stop(struct hold *hold) {
  hold->stopping = true;
  if (hold->state != STATE_RUNNING)
    return;
  batch_release(&hold->batch, NULL, true);
  child_recall(hold->child, hold->batch.number, QUEUE_ALL);
  go_on(hold);
}
