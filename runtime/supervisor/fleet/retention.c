#include "retention.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "memory.h"
#include "pipeline.h"

/* When old rows are looked for: so long after the start, and so long after the last time. */
enum { FIRST_MS = 2000, EVERY_MS = 60000 };

/* A step deletes at most so many rows, and fewer if a step has taken longer than STEP_MS. After a step the session
 * rests for RESTS times as long as it took. */
enum { ROWS_LEAST = 10, ROWS_FIRST = 100, ROWS_MOST = 1000, STEP_MS = 50, RESTS = 3, REST_LEAST_MS = 5 };

#define DAYS_MS(days) ((int64_t)(days)*24 * 3600 * 1000)
enum { STATS_DAYS = 14, AUDIT_DAYS = 366 };

/* The tables, in the order in which they are pruned. */
enum table { TABLE_ATTEMPTS, TABLE_JOBS, TABLE_STATS, TABLE_AUDIT, TABLE_COUNT };

static const struct {
  const char *name;
  enum statement statement;
} tables[TABLE_COUNT] = {
    [TABLE_ATTEMPTS] = {"pgq_attempts", STATEMENT_PRUNE_ATTEMPTS},
    [TABLE_JOBS] = {"pgq_jobs", STATEMENT_PRUNE_JOBS},
    [TABLE_STATS] = {"pgq_stats", STATEMENT_PRUNE_STATS},
    [TABLE_AUDIT] = {"pgq_audit", STATEMENT_PRUNE_AUDIT},
};

struct retention {
  const struct options *options;
  const int64_t *worker_id;
  bool (*act)(void *owner, enum statement statement, const struct parameters *parameters);
  void *owner;
  struct connection *connection; /* open while rows are deleted */
  uv_timer_t timer;              /* until the next look; while rows are deleted, until the next step */
  bool started, stopped;
  bool deleting;
  enum table table;          /* deleting: the table of the next step */
  char *queue;               /* in TABLE_JOBS: the queue of the last step; NULL: none */
  bool again;                /* in TABLE_JOBS: the queue may have more old jobs */
  int64_t rows;              /* how many rows a step deletes */
  int64_t step_ms;           /* when the last step was sent */
  int64_t deleted;           /* rows of the table in this pass */
  int failures[TABLE_COUNT]; /* in a row */
};

static void on_look_timer(uv_timer_t *timer);
static void on_step_timer(uv_timer_t *timer);

static void look_in(struct retention *retention, int64_t wait_ms) {
  if (!retention->stopped)
    uv_timer_start(&retention->timer, on_look_timer, (uint64_t)wait_ms, 0);
}

/* ── a pass over the tables ── */

static int64_t kept_ms(const struct retention *retention, enum table table) {
  const struct options *options = retention->options;
  switch (table) {
  case TABLE_ATTEMPTS:
    return options->keep_attempts_ms;
  case TABLE_JOBS:
    return options->keep_completed_ms > 0 ? options->keep_completed_ms : options->keep_failed_ms;
  case TABLE_STATS:
    return DAYS_MS(STATS_DAYS);
  default:
    return DAYS_MS(AUDIT_DAYS);
  }
}

static void end_pass(struct retention *retention) {
  retention->deleting = false;
  connection_close(retention->connection, "old rows are deleted");
  look_in(retention, EVERY_MS);
}

static void next_table(struct retention *retention) {
  if (retention->deleted > 0)
    log_debug("old rows deleted", LOG_T("table", tables[retention->table].name), LOG_I("rows", retention->deleted));
  free(retention->queue);
  retention->queue = NULL;
  retention->again = false;
  retention->deleted = 0;
  retention->table++;
}

static void step(struct retention *retention) {
  struct parameters parameters = {0};
  while (retention->table < TABLE_COUNT && kept_ms(retention, retention->table) == 0) /* kept for ever */
    next_table(retention);
  if (retention->table == TABLE_COUNT) {
    end_pass(retention);
    return;
  }
  if (retention->table == TABLE_JOBS) {
    parameters_add_text(&parameters, retention->queue ? retention->queue : "");
    parameters_add_bool(&parameters, retention->again);
    parameters_add_i64(&parameters, retention->options->keep_completed_ms);
    parameters_add_i64(&parameters, retention->options->keep_failed_ms);
  } else {
    parameters_add_i64(&parameters, kept_ms(retention, retention->table));
  }
  parameters_add_i64(&parameters, retention->rows);
  retention->step_ms = clock_ms();
  connection_send(retention->connection, tables[retention->table].statement, &parameters);
  connection_sync(retention->connection);
  parameters_free(&parameters);
}

static void on_step_timer(uv_timer_t *timer) {
  struct retention *retention = timer->data;
  if (retention->deleting && connection_is_up(retention->connection))
    step(retention);
}

/* ── the session ── */

static void on_up(void *owner) {
  struct retention *retention = owner;
  retention->table = TABLE_ATTEMPTS;
  retention->rows = ROWS_FIRST;
  step(retention);
}

/* The session was lost: the rest is deleted a minute later. */
static void on_down(void *owner, const char *reason) {
  struct retention *retention = owner;
  (void)reason;
  next_table(retention);
  uv_timer_start(&retention->timer, on_look_timer, EVERY_MS, 0);
}

/* Whether the error may be over at the next pass: a lock, a limit, a table that is being swapped. Holds log such errors
 * if they last. */
static bool is_passing(const PGresult *result) {
  const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  static const char *const states[] = {"40", "53", "55", "57", "42P01"};
  for (size_t i = 0; state && i < sizeof states / sizeof states[0]; i++)
    if (strncmp(state, states[i], strlen(states[i])) == 0)
      return true;
  return false;
}

/* A failure is logged once; one that may be over at the next pass is not, the first time. */
static void take_failure(struct retention *retention, const PGresult *result) {
  const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (!primary) /* the message is libpq's: the session is lost */
    return;
  int failures = ++retention->failures[retention->table];
  log_line(failures == (is_passing(result) ? 2 : 1) ? LOG_WARN : LOG_DEBUG,
           "cannot delete old rows: trying again later", LOG_T("table", tables[retention->table].name),
           LOG_T("error", primary));
  next_table(retention);
}

/* Chooses the size of the next step by the time that this one took. */
static void learn(struct retention *retention, int64_t deleted) {
  int64_t took_ms = clock_ms() - retention->step_ms;
  if (took_ms > STEP_MS)
    retention->rows = retention->rows / 2 > ROWS_LEAST ? retention->rows / 2 : ROWS_LEAST;
  else if (took_ms < STEP_MS / 2 && deleted == retention->rows)
    retention->rows = retention->rows * 2 < ROWS_MOST ? retention->rows * 2 : ROWS_MOST;
}

static void on_result(void *owner, enum statement statement, PGresult *result) {
  struct retention *retention = owner;
  if (result_failed(result)) {
    take_failure(retention, result);
    return;
  }
  bool jobs = statement == STATEMENT_PRUNE_JOBS;
  int64_t deleted = result_i64(result, 0, jobs ? 1 : 0);
  bool more = deleted == retention->rows;
  retention->failures[retention->table] = 0;
  retention->deleted += deleted;
  learn(retention, deleted);
  if (jobs && !PQgetisnull(result, 0, 0)) {
    char *queue = memory_text(PQgetvalue(result, 0, 0));
    free(retention->queue);
    retention->queue = queue;
    retention->again = more;
  } else if (jobs || !more) {
    next_table(retention);
  }
}

static void on_synced(void *owner) {
  struct retention *retention = owner;
  int64_t rest_ms = (clock_ms() - retention->step_ms) * RESTS;
  if (retention->deleting)
    uv_timer_start(&retention->timer, on_step_timer, (uint64_t)(rest_ms > REST_LEAST_MS ? rest_ms : REST_LEAST_MS), 0);
}

static const struct connection_events connection_events = {on_up, on_down, on_result, on_synced, NULL};

/* ── whose turn it is ── */

static void on_look_timer(uv_timer_t *timer) {
  struct retention *retention = timer->data;
  struct parameters parameters = {0};
  look_in(retention, EVERY_MS);
  if (retention->deleting) { /* the session was lost, and has not come back */
    end_pass(retention);
    return;
  }
  if (*retention->worker_id == 0)
    return;
  parameters_add_i64(&parameters, *retention->worker_id);
  retention->act(retention->owner, STATEMENT_IS_OLDEST_WORKER, &parameters);
  parameters_free(&parameters);
}

bool retention_result(struct retention *retention, enum statement statement, const PGresult *result) {
  if (statement != STATEMENT_IS_OLDEST_WORKER)
    return false;
  if (!result_failed(result) && *PQgetvalue(result, 0, 0) && !retention->stopped && !retention->deleting) {
    retention->deleting = true;
    connection_open(retention->connection);
  }
  return true;
}

/* ── life ── */

struct retention *retention_new(uv_loop_t *loop, const struct options *options, struct session_mode *mode,
                                const int64_t *worker_id,
                                bool (*act)(void *owner, enum statement statement, const struct parameters *parameters),
                                void *owner) {
  struct retention *retention = memory_new(sizeof *retention);
  *retention = (struct retention){.options = options, .worker_id = worker_id, .act = act, .owner = owner};
  retention->connection = connection_new(loop, "retention", options->db, 0, mode, &connection_events, retention);
  uv_timer_init(loop, &retention->timer);
  retention->timer.data = retention;
  return retention;
}

void retention_start(struct retention *retention) {
  if (retention->started)
    return;
  retention->started = true;
  look_in(retention, FIRST_MS);
}

void retention_stop(struct retention *retention) {
  retention->stopped = true;
  retention->deleting = false;
  uv_timer_stop(&retention->timer);
  connection_close(retention->connection, "the worker stops");
}

static void free_retention(uv_handle_t *timer) {
  struct retention *retention = timer->data;
  free(retention->queue);
  free(retention);
}

void retention_free(struct retention *retention) {
  if (!retention)
    return;
  connection_free(retention->connection);
  uv_close((uv_handle_t *)&retention->timer, free_retention);
}
