#include "worker_row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "database_clock.h"
#include "log.h"
#include "memory.h"
#include "token.h"
#include "version.h"

/* The wait before the lock of the worker's row is tried again: the server may not know yet that the last session of
 * this worker was lost, and then that session has the lock. */
enum { LOCK_AGAIN_MS = 1000 };

/* A status that has changed is written after STATUS_SOON_MS, but not sooner than STATUS_EVERY_MS after the last one. */
enum { STATUS_SOON_MS = 10, STATUS_EVERY_MS = 1000 };

struct worker_row {
  const struct connection *connection;
  const struct queue_list *queues;
  const struct session_mode *mode;
  struct history *history;
  struct status *status;
  char host[256];
  const struct worker_row_events *events;
  void *owner;
  uv_timer_t lock_timer;   /* until the lock is tried again */
  uv_timer_t status_timer; /* until a status that has changed is written */
  int64_t written_ms;      /* when the status was written last */
  int64_t id;              /* 0: the worker has no row */
  bool leaving;
  bool failure_logged;
};

static void on_status_changed(void *owner);

struct worker_row *worker_row_new(uv_loop_t *loop, const struct connection *connection, const struct queue_list *queues,
                                  const struct session_mode *mode, struct history *history, struct status *status,
                                  const struct worker_row_events *events, void *owner) {
  struct worker_row *row = memory_new(sizeof *row);
  *row = (struct worker_row){.connection = connection,
                             .queues = queues,
                             .mode = mode,
                             .history = history,
                             .status = status,
                             .events = events,
                             .owner = owner};
  uv_timer_init(loop, &row->lock_timer);
  uv_timer_init(loop, &row->status_timer);
  row->lock_timer.data = row->status_timer.data = row;
  status_listen(status, on_status_changed, row);
  gethostname(row->host, sizeof row->host - 1);
  snprintf(history->worker, sizeof history->worker, "%s:%d", row->host, (int)getpid());
  return row;
}

static void free_row(uv_handle_t *status_timer) {
  free(status_timer->data);
}

/* The timers are closed one after the other, because the loop calls back in an order of its own. */
static void close_status_timer(uv_handle_t *lock_timer) {
  struct worker_row *row = lock_timer->data;
  uv_close((uv_handle_t *)&row->status_timer, free_row);
}

void worker_row_free(struct worker_row *row) {
  if (!row)
    return;
  status_listen(row->status, NULL, NULL);
  uv_timer_stop(&row->status_timer); /* it may be due now, and is closed later */
  uv_close((uv_handle_t *)&row->lock_timer, close_status_timer);
}

const int64_t *worker_row_id(const struct worker_row *row) {
  return &row->id;
}

/* ── statements ── */

/* Sends a statement whose only parameter is the worker's id. */
static void act_on_row(struct worker_row *row, enum statement statement) {
  struct parameters parameters = {0};
  parameters_add_i64(&parameters, row->id);
  row->events->act(row->owner, statement, &parameters);
  parameters_free(&parameters);
}

static void add_queues(const struct worker_row *row, struct parameters *parameters) {
  const char **names = memory_new((size_t)(row->queues->count + 1) * sizeof *names);
  int count = 0;
  for (const struct queue *queue = row->queues->first; queue; queue = queue->next)
    if (queue->registered)
      names[count++] = queue->name;
  parameters_add_text_array(parameters, names, count);
  free(names);
}

static void add(struct worker_row *row) {
  struct parameters parameters = {0};
  parameters_add_text(&parameters, row->host);
  parameters_add_i32(&parameters, getpid());
  parameters_add_text(&parameters, PGQ_LUA_VERSION);
  add_queues(row, &parameters);
  parameters_add_bool(&parameters, row->mode->kind == SESSION_SHARED);
  row->events->act(row->owner, STATEMENT_WORKER_ADD, &parameters);
  parameters_free(&parameters);
}

void worker_row_write_queues(struct worker_row *row) {
  struct parameters parameters = {0};
  if (row->id == 0 || row->leaving || !connection_is_up(row->connection))
    return;
  parameters_add_i64(&parameters, row->id);
  add_queues(row, &parameters);
  row->events->act(row->owner, STATEMENT_WORKER_QUEUES, &parameters);
  parameters_free(&parameters);
}

static void send_heartbeat(struct worker_row *row) {
  struct parameters parameters = {0};
  char *status = status_text(row->status, !connection_is_unicode(row->connection));
  row->written_ms = clock_ms();
  parameters_add_i64(&parameters, row->id);
  parameters_add_text(&parameters, status);
  row->events->act(row->owner, STATEMENT_WORKER_HEARTBEAT, &parameters);
  parameters_free(&parameters);
  free(status);
}

void worker_row_take_request(struct worker_row *row) {
  if (row->id != 0 && !row->leaving && connection_is_up(row->connection))
    act_on_row(row, STATEMENT_WORKER_TAKE_REQUEST);
}

void worker_row_write(struct worker_row *row) {
  if (row->id == 0)
    add(row);
  else
    send_heartbeat(row);
}

static void on_status_timer(uv_timer_t *timer) {
  struct worker_row *row = timer->data;
  if (row->id != 0 && !row->leaving && connection_is_up(row->connection))
    send_heartbeat(row);
}

/* Changes that come together are written together, and at most once in STATUS_EVERY_MS. */
static void on_status_changed(void *owner) {
  struct worker_row *row = owner;
  int64_t wait_ms = row->written_ms + STATUS_EVERY_MS - clock_ms();
  if (!uv_is_active((uv_handle_t *)&row->status_timer))
    uv_timer_start(&row->status_timer, on_status_timer, wait_ms > STATUS_SOON_MS ? (uint64_t)wait_ms : STATUS_SOON_MS,
                   0);
}

void worker_row_lock(struct worker_row *row) {
  if (row->id != 0 && row->mode->kind == SESSION_OWN && !row->leaving && connection_is_up(row->connection))
    act_on_row(row, STATEMENT_WORKER_LOCK);
}

void worker_row_leave(struct worker_row *row) {
  row->leaving = true;
}

void worker_row_remove(struct worker_row *row) {
  act_on_row(row, STATEMENT_WORKER_REMOVE);
}

/* ── answers ── */

static void fail(struct worker_row *row, const char *error) {
  log_line(row->failure_logged ? LOG_DEBUG : LOG_WARN, "cannot write this worker's row in pgq_workers: trying again",
           LOG_T("error", error), LOG_US("retry_in", HEARTBEAT_MS * 1000));
  row->failure_logged = true;
}

static void on_lock_timer(uv_timer_t *timer) {
  worker_row_lock(timer->data);
}

static void lock_again_later(struct worker_row *row) {
  uv_timer_start(&row->lock_timer, on_lock_timer, LOCK_AGAIN_MS, 0);
}

/* The lock may still be with another session. */
static void take_lock(struct worker_row *row, const PGresult *result, int column) {
  bool without = PQgetisnull(result, 0, column); /* a session that a pooler shares takes no lock */
  if (!without && *PQgetvalue(result, 0, column) == 0)
    lock_again_later(row);
}

static void take_heartbeat(struct worker_row *row, const PGresult *result) {
  bool written = *PQgetvalue(result, 0, 0), exists = *PQgetvalue(result, 0, 1);
  database_clock_set(result_i64(result, 0, 2));
  if (written) {
    row->failure_logged = false;
  } else if (exists) {
    fail(row, "the UPDATE changes no row: is there a trigger, rule or row security on pgq_workers?");
  } else { /* the row was deleted, or the table was created anew */
    row->id = row->history->worker_id = 0;
    add(row);
  }
}

static void take_added(struct worker_row *row, const PGresult *result) {
  if (PQntuples(result) == 0) {
    fail(row, "the INSERT adds no row: is there a trigger or rule on pgq_workers?");
    return;
  }
  row->id = row->history->worker_id = result_i64(result, 0, 0);
  token_set_worker(row->id);
  row->events->added(row->owner);
  on_status_changed(row);
  row->failure_logged = false;
  database_clock_set(result_i64(result, 0, 2));
  take_lock(row, result, 1);
}

/* The worker continues without its row. The failure is logged once. */
static void take_failure(struct worker_row *row, enum statement statement, const PGresult *result) {
  const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  fail(row, primary ? primary : PQresultErrorMessage(result));
  if (statement == STATEMENT_WORKER_LOCK)
    lock_again_later(row);
}

/* Several requests have come, one after the other, before this worker has seen the first. */
static void take_requests(struct worker_row *row, const PGresult *result) {
  char *requests = memory_text(PQgetvalue(result, 0, 0)), *rest = requests;
  for (char *request; (request = strsep(&rest, " "));)
    if (*request)
      row->events->requested(row->owner, request);
  free(requests);
}

bool worker_row_result(struct worker_row *row, enum statement statement, const PGresult *result) {
  if (statement != STATEMENT_WORKER_ADD && statement != STATEMENT_WORKER_HEARTBEAT &&
      statement != STATEMENT_WORKER_LOCK && statement != STATEMENT_WORKER_REMOVE &&
      statement != STATEMENT_WORKER_QUEUES && statement != STATEMENT_WORKER_TAKE_REQUEST)
    return false;
  if (result_failed(result))
    take_failure(row, statement, result);
  else if (statement == STATEMENT_WORKER_ADD)
    take_added(row, result);
  else if (statement == STATEMENT_WORKER_LOCK)
    take_lock(row, result, 0);
  else if (statement == STATEMENT_WORKER_HEARTBEAT)
    take_heartbeat(row, result);
  else if (statement == STATEMENT_WORKER_TAKE_REQUEST && PQntuples(result) > 0)
    take_requests(row, result);
  return true;
}
