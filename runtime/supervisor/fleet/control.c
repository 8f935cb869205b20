#include "control.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "connection.h"
#include "doorbell.h"
#include "log.h"
#include "memory.h"
#include "version.h"

enum { HEARTBEAT_MS = 10000, QUIET_MS = 15000, LEAVE_TIMEOUT_MS = 2000 };

/* How soon leases are looked at again when one was not there. */
enum { LOST_AGAIN_MS = 1000 };

struct control {
  struct connection *connection;
  struct session_mode *mode;
  struct doorbell *bell;
  bool bell_answered; /* the act that was answered last is the doorbell's */
  const struct options *options;
  const struct queue_list *queues;
  const struct control_events *events;
  void *owner;
  uv_timer_t timer;  /* heartbeats; after control_leave(), the time it may take */
  uv_timer_t extend; /* leases */
  bool pooler_told, checked, announced, leaving, removing;
  int busy;
  int64_t worker_id;              /* 0: no row yet */
  bool row_failed, extend_failed; /* that has been logged */
};

static void on_extend(uv_timer_t *timer);
static void on_leave_timeout(uv_timer_t *timer);
static void on_up(void *owner);
static void on_down(void *owner, const char *reason);
static void on_result(void *owner, enum statement statement, PGresult *result);
static void on_synced(void *owner);
static void on_notified(void *owner, const char *channel, const char *payload);

static const struct connection_events connection_events = {on_up, on_down, on_result, on_synced, on_notified};

static void on_raised(void *owner, bool clear) {
  struct control *control = owner;
  control->events->raised(control->owner, clear);
}

static void on_rung(void *owner) {
  struct control *control = owner;
  control->events->rung(control->owner);
}

static const struct doorbell_events doorbell_events = {on_raised, on_rung};

struct control *control_new(uv_loop_t *loop, const struct options *options, const struct queue_list *queues,
                            struct session_mode *mode, const struct control_events *events, void *owner) {
  struct control *control = memory_new(sizeof *control);
  control->options = options;
  control->queues = queues;
  control->mode = mode;
  control->events = events;
  control->owner = owner;
  uv_timer_init(loop, &control->timer);
  uv_timer_init(loop, &control->extend);
  control->timer.data = control->extend.data = control;
  control->connection = connection_new(loop, "control", options->db, 0, mode, &connection_events, control);
  control->bell = doorbell_new(loop, control->connection, queues, &doorbell_events, control);
  connection_open(control->connection);
  return control;
}

static void free_control(uv_handle_t *timer) {
  free(timer->data);
}

/* One after the other: the loop calls back in an order of its own, and the last one takes the memory along. */
static void close_timer(uv_handle_t *extend) {
  struct control *control = extend->data;
  uv_close((uv_handle_t *)&control->timer, free_control);
}

void control_free(struct control *control) {
  if (!control)
    return;
  uv_timer_stop(&control->timer); /* it may be due at this moment, and is closed later */
  connection_free(control->connection);
  doorbell_free(control->bell);
  uv_close((uv_handle_t *)&control->extend, close_timer);
}

/* Acts queue up on the connection; `busy` counts those without an answer. */
static void act(struct control *control, enum statement statement, const struct parameters *parameters) {
  control->busy++;
  connection_send(control->connection, statement, parameters);
  connection_sync(control->connection);
}

/* Who has not been heard of for `quiet_ms`, and has no session, has vanished. */
static void look_for_vanished(struct control *control, int64_t quiet_ms) {
  struct parameters parameters = {0};
  parameters_add_i64(&parameters, control->worker_id);
  parameters_add_i64(&parameters, quiet_ms);
  act(control, STATEMENT_DELETE_DEAD_WORKERS, &parameters);
  parameters_free(&parameters);
}

static void add_row(struct control *control) {
  struct parameters parameters = {0};
  const char **names = memory_new((size_t)control->queues->count * sizeof *names);
  char host[256] = "";
  int count = 0;
  gethostname(host, sizeof host - 1);
  for (const struct queue *queue = control->queues->first; queue; queue = queue->next)
    names[count++] = queue->name;
  parameters_add_text(&parameters, host);
  parameters_add_i32(&parameters, getpid());
  parameters_add_text(&parameters, PGQ_LUA_VERSION);
  parameters_add_text_array(&parameters, names, count);
  parameters_add_bool(&parameters, control->mode->kind == SESSION_SHARED);
  act(control, STATEMENT_WORKER_ADD, &parameters);
  parameters_free(&parameters);
  free(names);
}

static void act_on_row(struct control *control, enum statement statement) {
  struct parameters parameters = {0};
  parameters_add_i64(&parameters, control->worker_id);
  act(control, statement, &parameters);
  parameters_free(&parameters);
}

static void extend_in(struct control *control, int64_t wait_ms) {
  int64_t third_ms = control->options->lease_ms / 3;
  uv_timer_start(&control->extend, on_extend, (uint64_t)(wait_ms < third_ms ? wait_ms : third_ms), (uint64_t)third_ms);
}

/* Extends all leases in one statement; those that were lost come back. */
static void on_extend(uv_timer_t *timer) {
  struct control *control = timer->data;
  struct parameters parameters = {0};
  if (!connection_is_up(control->connection))
    return;
  int most = control->events->lease_count(control->owner);
  int64_t *ids = memory_new(3 * (size_t)most * sizeof *ids), *tokens = ids + most, *lasts = tokens + most;
  int count = control->events->leases(control->owner, ids, tokens, lasts);
  if (count > 0) {
    parameters_add_i64_array(&parameters, ids, count);
    parameters_add_i64_array(&parameters, tokens, count);
    parameters_add_i64_array(&parameters, lasts, count);
    act(control, STATEMENT_EXTEND_LEASES, &parameters);
    parameters_free(&parameters);
  }
  free(ids);
}

/* A lost lease may have been used up: then its job ends at once, and the next time it is not asked for. */
static void take_lost(struct control *control, const PGresult *result) {
  control->extend_failed = false;
  for (int row = 0; row < PQntuples(result); row++)
    control->events->lease_lost(control->owner, result_i64(result, row, 0));
  if (PQntuples(result) > 0)
    extend_in(control, LOST_AGAIN_MS);
}

/* A heartbeat, or the row itself when there is none (any more). */
static void on_heartbeat(uv_timer_t *timer) {
  struct control *control = timer->data;
  if (!connection_is_up(control->connection) || control->busy > 0)
    return;
  if (control->worker_id)
    act_on_row(control, STATEMENT_WORKER_HEARTBEAT);
  else
    add_row(control);
  if (control->worker_id) /* an advisory lock is re-entrant: the row of ours must be known, to be left out */
    look_for_vanished(control, QUIET_MS);
}

/* LISTEN lasts only in a session of our own. */
static void open_bell(struct control *control) {
  if (control->mode->kind != SESSION_OWN)
    return;
  act(control, STATEMENT_CANCEL_LISTEN, NULL);
  doorbell_open(control->bell);
}

static void left(struct control *control) {
  uv_timer_stop(&control->timer);
  control->events->left(control->owner);
}

/* A pooler that was not announced is taken for one that shares sessions. Said once, though the user may know better. */
static void tell_pooler(struct control *control) {
  if (control->pooler_told || control->options->pooler != POOLER_AUTO || control->mode->kind != SESSION_SHARED)
    return;
  log_warn("the database is behind a connection pooler: this worker prepares no statements, and finds new jobs at the "
           "next poll; if the pooler keeps a session for each client, --pooler session gives more",
           LOG_US("poll_interval", control->options->poll_interval_ms * 1000));
  control->pooler_told = true;
}

static void on_up(void *owner) {
  struct control *control = owner;
  control->busy = 0;
  if (!control->checked) {
    tell_pooler(control);
    act(control, STATEMENT_CHECK_SCHEMA, NULL);
    return;
  }
  if (control->worker_id && control->mode->kind == SESSION_OWN)
    act_on_row(control, STATEMENT_WORKER_LOCK); /* the lock went with the last session */
  open_bell(control);
  on_extend(&control->extend);
  on_heartbeat(&control->timer);
}

static void on_down(void *owner, const char *reason) {
  struct control *control = owner;
  (void)reason;
  control->busy = 0;
  doorbell_down(control->bell);
  if (control->leaving) /* the row stays; who looks at it sees that nobody has been heard of for long */
    uv_timer_start(&control->timer, on_leave_timeout, 0, 0);
}

static void take_check(struct control *control, const PGresult *result) {
  if (PQntuples(result) > 0) {
    control->events->lacking(control->owner, PQgetvalue(result, 0, 0));
    return;
  }
  control->checked = true;
  uv_timer_start(&control->timer, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
  extend_in(control, INT64_MAX);
  /* Who claims must have a row before, and know whether somebody vanished: else a job that kills us leaves no trace. */
  look_for_vanished(control, 0);
  add_row(control);
  open_bell(control);
}

/* The server's message, or libpq's own when the connection is gone. */
static const char *error_text(const PGresult *result) {
  const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  return primary ? primary : PQresultErrorMessage(result);
}

/* The worker works without its row; that it could not be written is said once. */
static void row_failed(struct control *control, const PGresult *result) {
  log_line(control->row_failed ? LOG_DEBUG : LOG_WARN, "cannot write this worker's row in pgq_workers",
           LOG_T("error", error_text(result)));
  control->row_failed = true;
}

static void extend_failed(struct control *control, const PGresult *result) {
  log_line(control->extend_failed ? LOG_DEBUG : LOG_WARN, "cannot extend leases", LOG_T("error", error_text(result)));
  control->extend_failed = true;
}

static void on_result(void *owner, enum statement statement, PGresult *result) {
  struct control *control = owner;
  control->bell_answered = doorbell_result(control->bell, statement, result);
  if (control->bell_answered)
    return;
  if (result_failed(result)) {
    if (statement == STATEMENT_EXTEND_LEASES)
      extend_failed(control, result);
    else if (statement == STATEMENT_CHECK_SCHEMA)
      log_error("cannot look at the tables", LOG_T("error", error_text(result)));
    else
      row_failed(control, result);
    return;
  }
  switch (statement) {
  case STATEMENT_CHECK_SCHEMA:
    take_check(control, result);
    break;
  case STATEMENT_WORKER_ADD:
    control->worker_id = result_i64(result, 0, 0);
    control->row_failed = false;
    break;
  case STATEMENT_WORKER_HEARTBEAT:
    if (*PQcmdTuples(result) == '0') /* somebody removed it: the next heartbeat adds it again */
      control->worker_id = 0;
    break;
  case STATEMENT_DELETE_DEAD_WORKERS:
    for (int row = 0; row < PQntuples(result); row++)
      control->events->vanished(control->owner, PQgetvalue(result, row, 0), result_i32(result, row, 1));
    break;
  case STATEMENT_EXTEND_LEASES:
    take_lost(control, result);
    break;
  default:
    break;
  }
}

static void on_synced(void *owner) {
  struct control *control = owner;
  if (control->bell_answered)
    return;
  control->busy -= control->busy > 0;
  connection_works(control->connection);
  if (control->leaving && control->busy > 0) {
    return;
  } else if (control->leaving && control->worker_id && !control->removing) {
    control->removing = true;
    act_on_row(control, STATEMENT_WORKER_REMOVE);
  } else if (control->leaving) {
    left(control);
  } else if (control->busy > 0) {
    return;
  } else if (!control->checked) {
    connection_fail(control->connection, "the tables could not be checked");
  } else if (!control->announced) {
    control->announced = true;
    control->events->checked(control->owner);
  }
}

static void on_leave_timeout(uv_timer_t *timer) {
  left(timer->data);
}

static void on_notified(void *owner, const char *channel, const char *payload) {
  struct control *control = owner;
  char *rest;
  if (strcmp(channel, "pgq_cancel") != 0) {
    doorbell_notified(control->bell, payload);
    return;
  }
  int64_t table = strtoll(payload, &rest, 10);
  if (*rest == ':' && table == doorbell_table(control->bell)) /* there may be more such tables in the database */
    control->events->cancelled(control->owner, strtoll(rest + 1, NULL, 10));
}

bool control_flag(struct control *control, bool up) {
  return doorbell_flag(control->bell, up);
}

void control_probe(struct control *control) {
  doorbell_probe(control->bell);
}

void control_leave(struct control *control) {
  bool reachable = connection_is_up(control->connection);
  control->leaving = true;
  control->bell_answered = false;
  uv_timer_start(&control->timer, on_leave_timeout, reachable ? LEAVE_TIMEOUT_MS : 0, 0);
  if (reachable && control->busy == 0)
    on_synced(control);
}
