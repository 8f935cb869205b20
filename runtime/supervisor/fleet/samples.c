#include "samples.h"

#include <stdlib.h>

#include "clock.h"
#include "log.h"
#include "memory.h"

enum { EVERY_MS = 15000, REST_LEAST_MS = 5, RESTS = 4 };

/* The server cancels a step after this time. It is a text, since it is a setting of the server. */
#define LIMIT_MS "250"

/* How long a step may take, and how many queues it may ask. */
enum { STEP_MS = 20, QUEUES_FIRST = 4, QUEUES_MOST = 100 };

struct samples {
  struct connection *connection;
  const struct queue_list *queues;
  uv_timer_t timer;   /* until the next step or the next round; stopped while an answer is awaited */
  bool active;        /* from samples_up() to samples_down() */
  int64_t round_ms;   /* when the round began */
  int64_t step_ms;    /* when the step was sent */
  struct queue *next; /* the queue that the next step begins with; NULL: the round is complete */
  struct queue *asked[QUEUES_MOST];
  int asked_count;
  int most; /* how many queues a step asks */
  struct xmin_sample xmin;
  bool round_failed;   /* a step of this round has failed */
  bool failure_logged; /* since the last round without a failure */
};

static void on_timer(uv_timer_t *timer);

struct samples *samples_new(uv_loop_t *loop, struct connection *connection, const struct queue_list *queues) {
  struct samples *samples = memory_new(sizeof *samples);
  *samples = (struct samples){.connection = connection, .queues = queues, .most = QUEUES_FIRST};
  uv_timer_init(loop, &samples->timer);
  samples->timer.data = samples;
  return samples;
}

static void free_samples(uv_handle_t *timer) {
  free(timer->data);
}

void samples_free(struct samples *samples) {
  if (!samples)
    return;
  uv_timer_stop(&samples->timer); /* it may be due now, and is closed later */
  uv_close((uv_handle_t *)&samples->timer, free_samples);
}

void samples_up(struct samples *samples) {
  if (samples) {
    samples->active = true;
    samples->next = NULL;
    uv_timer_start(&samples->timer, on_timer, 0, 0);
  }
}

void samples_down(struct samples *samples) {
  if (!samples)
    return;
  samples->active = false;
  uv_timer_stop(&samples->timer);
}

struct xmin_sample samples_xmin(const struct samples *samples) {
  return samples ? samples->xmin : (struct xmin_sample){0};
}

/* ── asking ── */

static void send_limit(struct samples *samples) {
  struct parameters parameters = {0};
  parameters_add_text(&parameters, LIMIT_MS);
  connection_send(samples->connection, STATEMENT_SAMPLE_LIMIT, &parameters);
  parameters_free(&parameters);
}

/* Takes the next queues that the script registers. */
static void choose(struct samples *samples) {
  samples->asked_count = 0;
  for (; samples->next && samples->asked_count < samples->most; samples->next = samples->next->next)
    if (samples->next->registered)
      samples->asked[samples->asked_count++] = samples->next;
}

static void send_queues(struct samples *samples) {
  struct parameters parameters = {0};
  const char *names[QUEUES_MOST];
  for (int i = 0; i < samples->asked_count; i++)
    names[i] = samples->asked[i]->name;
  parameters_add_text_array(&parameters, names, samples->asked_count);
  parameters_add_i64(&parameters, SAMPLE_DUE_MOST);
  connection_send(samples->connection, STATEMENT_SAMPLE_QUEUES, &parameters);
  parameters_free(&parameters);
}

/* The limit holds until the end of the act, which is a transaction. */
static void on_timer(uv_timer_t *timer) {
  struct samples *samples = timer->data;
  bool begins = samples->next == NULL;
  samples->step_ms = clock_ms();
  if (begins) {
    samples->failure_logged = samples->failure_logged && samples->round_failed;
    samples->round_failed = false;
    samples->round_ms = samples->step_ms;
    samples->next = samples->queues->first;
  }
  choose(samples);
  send_limit(samples);
  send_queues(samples);
  if (begins) /* last: if it fails, the queues have been sampled */
    connection_send(samples->connection, STATEMENT_SAMPLE_XMIN, NULL);
  connection_sync(samples->connection);
}

/* ── answers ── */

static void take_queues(struct samples *samples, const PGresult *result) {
  for (int row = 0; row < PQntuples(result); row++) {
    int64_t position = result_i64(result, row, SAMPLE_QUEUES_QUEUE);
    bool has_oldest = !PQgetisnull(result, row, SAMPLE_QUEUES_OLDEST_MS);
    int64_t oldest_ms = has_oldest ? result_i64(result, row, SAMPLE_QUEUES_OLDEST_MS) : 0;
    samples->asked[position - 1]->sample = (struct queue_sample){.at_ms = samples->step_ms,
                                                                 .due = result_i64(result, row, SAMPLE_QUEUES_DUE),
                                                                 .oldest_s = (double)oldest_ms / 1000};
  }
}

/* Chooses how many queues the next step asks by the time that this one took. */
static void learn(struct samples *samples, int64_t took_ms, bool failed) {
  if (failed || took_ms > STEP_MS)
    samples->most = samples->most / 2 > 1 ? samples->most / 2 : 1;
  else if (took_ms < STEP_MS / 2 && samples->asked_count == samples->most)
    samples->most = samples->most * 2 < QUEUES_MOST ? samples->most * 2 : QUEUES_MOST;
}

/* The answer to the last statement of a step has come: the next step follows, or the next round. */
static void go_on(struct samples *samples, bool failed) {
  int64_t now_ms = clock_ms(), took_ms = now_ms - samples->step_ms;
  int64_t wait_ms = samples->next ? took_ms * RESTS : samples->round_ms + EVERY_MS - now_ms;
  learn(samples, took_ms, failed);
  uv_timer_start(&samples->timer, on_timer, (uint64_t)(wait_ms > REST_LEAST_MS ? wait_ms : REST_LEAST_MS), 0);
}

/* The metrics then lack these numbers, which says more than old ones. */
static void forget(struct samples *samples) {
  for (int i = 0; i < samples->asked_count; i++)
    samples->asked[i]->sample.at_ms = 0;
}

static void take_failure(struct samples *samples, const PGresult *result) {
  const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (!primary) /* the message is libpq's: the session is lost, or an earlier statement of the step has failed */
    return;
  log_line(samples->failure_logged ? LOG_DEBUG : LOG_WARN, "cannot sample the queues for the metrics: trying again",
           LOG_T("error", primary));
  samples->failure_logged = samples->round_failed = true;
}

bool samples_result(struct samples *samples, enum statement statement, const PGresult *result) {
  if (statement != STATEMENT_SAMPLE_LIMIT && statement != STATEMENT_SAMPLE_XMIN && statement != STATEMENT_SAMPLE_QUEUES)
    return false;
  bool failed = result_failed(result);
  if (failed)
    take_failure(samples, result);
  if (statement == STATEMENT_SAMPLE_XMIN)
    samples->xmin = failed
                        ? (struct xmin_sample){0}
                        : (struct xmin_sample){.at_ms = samples->step_ms,
                                               .ids = result_i64(result, 0, SAMPLE_XMIN_IDS),
                                               .since_s = (double)result_i64(result, 0, SAMPLE_XMIN_SINCE_MS) / 1000};
  if (statement != STATEMENT_SAMPLE_QUEUES)
    return true;
  if (failed)
    forget(samples);
  else
    take_queues(samples, result);
  if (samples->active)
    go_on(samples, failed);
  return true;
}
