#include "control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cancellations.h"
#include "connection.h"
#include "dead_workers.h"
#include "doorbell.h"
#include "log.h"
#include "memory.h"
#include "regions.h"
#include "token.h"
#include "version.h"

enum { HEARTBEAT_MS = 10000, LEAVE_TIMEOUT_MS = 2000 };

/* The wait before the lock of the worker's row is tried again: the server may not know yet that the last session of
 * this worker was lost, and then that session has the lock. */
enum { LOCK_AGAIN_MS = 1000 };

/* The wait before leases are checked again when one of them was lost. */
enum { LOST_AGAIN_MS = 1000 };

/* The states follow each other in this order. Some may be left out. */
enum control_state {
  CONTROL_CHECKING, /* it is not known whether the database has the tables */
  CONTROL_JOINING,  /* the worker's row is added, and dead workers are looked for */
  CONTROL_SERVING,  /* checked() was called */
  CONTROL_LEAVING,  /* control_leave() was called: acts that are under way are waited for */
  CONTROL_REMOVING, /* the worker's row is being deleted */
  CONTROL_LEFT,     /* left() was called */
};

struct control {
  struct connection *connection;
  struct session_mode *mode;
  struct wakeup *wakeup;
  struct slot_list *slots;
  struct doorbell *bell;
  struct cancellations *cancellations;
  struct dead_workers *dead;
  struct regions *regions;
  const struct options *options;
  const struct queue_list *queues;
  const struct control_events *events;
  void *owner;
  enum control_state state;
  uv_timer_t timer;        /* until the next heartbeat; after control_leave(), until leaving has taken too long */
  uv_timer_t extend_timer; /* until leases are extended */
  uv_timer_t lock_timer;   /* until the lock of the worker's row is tried again */
  int busy;                /* acts without an answer, other than those of the doorbell and the regions */
  bool other_answered;     /* the act that was answered last is one of theirs */
  int64_t worker_id;       /* 0: the worker has no row */
  bool pooler_logged, row_failure_logged, extend_failure_logged;
};

static void on_extend_timer(uv_timer_t *timer);
static void on_lock_timer(uv_timer_t *timer);
static void on_leave_timeout(uv_timer_t *timer);
static void on_up(void *owner);
static void on_down(void *owner, const char *reason);
static void on_result(void *owner, enum statement statement, PGresult *result);
static void on_synced(void *owner);
static void on_notified(void *owner, const char *channel, const char *payload, int pid);
static bool on_look(void *owner, const struct parameters *parameters);

static const struct connection_events connection_events = {on_up, on_down, on_result, on_synced, on_notified};

static void act_for_dead_workers(void *owner, enum statement statement, const struct parameters *parameters);
static void on_jobs_freed(void *owner);

static const struct dead_workers_events dead_workers_events = {act_for_dead_workers, on_jobs_freed};

struct control *control_new(uv_loop_t *loop, const struct options *options, const struct queue_list *queues,
                            struct session_mode *mode, struct wakeup *wakeup, struct slot_list *slots,
                            struct frontier *frontier, const struct control_events *events, void *owner) {
  struct control *control = memory_new(sizeof *control);
  control->options = options;
  control->queues = queues;
  control->mode = mode;
  control->wakeup = wakeup;
  control->slots = slots;
  control->events = events;
  control->owner = owner;
  uv_timer_init(loop, &control->timer);
  uv_timer_init(loop, &control->extend_timer);
  uv_timer_init(loop, &control->lock_timer);
  control->timer.data = control->extend_timer.data = control->lock_timer.data = control;
  control->connection = connection_new(loop, "control", options->db, 0, mode, &connection_events, control);
  control->bell = doorbell_new(loop, control->connection, &control->worker_id, queues, wakeup);
  control->dead = dead_workers_new(loop, &dead_workers_events, control);
  control->regions = regions_new(control->connection, &control->worker_id, frontier);
  wakeup_set_doorbell(wakeup, control->bell);
  control->cancellations = cancellations_new(loop, slots, on_look, control);
  connection_open(control->connection);
  return control;
}

static void free_control(uv_handle_t *timer) {
  free(timer->data);
}

/* The timers are closed one after the other, because the loop calls back in an order of its own. */
static void close_timer(uv_handle_t *extend_timer) {
  struct control *control = extend_timer->data;
  uv_close((uv_handle_t *)&control->timer, free_control);
}

static void close_extend_timer(uv_handle_t *lock_timer) {
  struct control *control = lock_timer->data;
  uv_close((uv_handle_t *)&control->extend_timer, close_timer);
}

void control_free(struct control *control) {
  if (!control)
    return;
  uv_timer_stop(&control->timer); /* the timers may be due now, and are closed later */
  uv_timer_stop(&control->extend_timer);
  wakeup_set_doorbell(control->wakeup, NULL);
  connection_free(control->connection);
  doorbell_free(control->bell);
  cancellations_free(control->cancellations);
  dead_workers_free(control->dead);
  regions_free(control->regions);
  uv_close((uv_handle_t *)&control->lock_timer, close_extend_timer);
}

/* ── statements ── */

/* Sends an act of one statement. Several acts may be under way. */
static void act(struct control *control, enum statement statement, const struct parameters *parameters) {
  control->busy++;
  connection_send(control->connection, statement, parameters);
  connection_sync(control->connection);
}

static bool on_look(void *owner, const struct parameters *parameters) {
  struct control *control = owner;
  if (!connection_is_up(control->connection) || control->state >= CONTROL_REMOVING)
    return false;
  act(control, STATEMENT_FIND_CANCELLED, parameters);
  return true;
}

static void act_for_dead_workers(void *owner, enum statement statement, const struct parameters *parameters) {
  act(owner, statement, parameters);
}

static void on_jobs_freed(void *owner) {
  const struct control *control = owner;
  wakeup_rung(control->wakeup);
}

/* Sends a statement whose only parameter is the worker's id. */
static void act_on_row(struct control *control, enum statement statement) {
  struct parameters parameters = {0};
  parameters_add_i64(&parameters, control->worker_id);
  act(control, statement, &parameters);
  parameters_free(&parameters);
}

static void check_schema(struct control *control) {
  struct parameters parameters = {0};
  parameters_add_bool(&parameters, false);
  act(control, STATEMENT_CHECK_SCHEMA, &parameters);
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

/* Takes the lock of the worker's row, which ends with each session. A worker without it counts as dead. */
static void lock_row(struct control *control) {
  if (control->worker_id && control->mode->kind == SESSION_OWN && control->state < CONTROL_LEAVING &&
      connection_is_up(control->connection))
    act_on_row(control, STATEMENT_WORKER_LOCK);
}

static void on_lock_timer(uv_timer_t *timer) {
  lock_row(timer->data);
}

/* Takes the answer: the lock may still be with another session. */
static void take_lock(struct control *control, const PGresult *result, int column) {
  bool without = PQgetisnull(result, 0, column); /* a session that a pooler shares takes no lock */
  if (!without && *PQgetvalue(result, 0, column) == 0)
    uv_timer_start(&control->lock_timer, on_lock_timer, LOCK_AGAIN_MS, 0);
}

/* Listens to rings and cancellations; LISTEN lasts only in a session of our own. */
static void start_listening(struct control *control) {
  if (control->mode->kind != SESSION_OWN)
    return;
  act(control, STATEMENT_CANCEL_LISTEN, NULL);
  doorbell_open(control->bell);
  doorbell_ask_peers(control->bell);
}

/* Sends a heartbeat, or adds the worker's row if it is missing. */
static void on_heartbeat(uv_timer_t *timer) {
  struct control *control = timer->data;
  if (!connection_is_up(control->connection) || control->busy > 0)
    return;
  if (control->worker_id == 0) {
    add_row(control);
    return;
  }
  act_on_row(control, STATEMENT_WORKER_HEARTBEAT);
  doorbell_check_table(control->bell);
  doorbell_ask_peers(control->bell);
}

static void look_for_dead_workers(struct control *control) {
  if (control->worker_id != 0 && control->state < CONTROL_LEAVING)
    dead_workers_look(control->dead, control->worker_id);
}

/* ── leases ── */

/* Extends all leases in `wait_ms`, or sooner, and from then on at every third of their duration. */
static void extend_in(struct control *control, int64_t wait_ms) {
  int64_t third_ms = control->options->lease_ms / 3;
  uv_timer_start(&control->extend_timer, on_extend_timer, (uint64_t)(wait_ms < third_ms ? wait_ms : third_ms),
                 (uint64_t)third_ms);
}

/* Extends all leases in one statement, which returns the lost ones. */
static void extend(struct control *control) {
  struct parameters parameters = {0};
  int most = slot_list_lease_count(control->slots);
  int64_t *ids = memory_new(3 * (size_t)most * sizeof *ids), *tokens = ids + most, *lasts_ms = tokens + most;
  int count = slot_list_leases(control->slots, ids, tokens, lasts_ms);
  if (count > 0) {
    parameters_add_i64_array(&parameters, ids, NULL, count);
    parameters_add_i64_array(&parameters, tokens, NULL, count);
    parameters_add_i64_array(&parameters, lasts_ms, NULL, count);
    act(control, STATEMENT_EXTEND_LEASES, &parameters);
    parameters_free(&parameters);
  }
  free(ids);
}

static void on_extend_timer(uv_timer_t *timer) {
  struct control *control = timer->data;
  if (connection_is_up(control->connection))
    extend(control);
}

/* ── the session begins and ends ── */

/* Logs once that the worker treats the pooler as one that shares sessions. The user may know better. */
static void log_pooler(struct control *control) {
  if (control->pooler_logged || control->options->pooler != POOLER_AUTO || control->mode->kind != SESSION_SHARED)
    return;
  log_warn("the database is behind a connection pooler: this worker prepares no statements, and finds new jobs at the "
           "next poll; if the pooler keeps a session for each client, --pooler session gives more",
           LOG_US("poll_interval", control->options->poll_interval_ms * 1000));
  control->pooler_logged = true;
}

static void on_up(void *owner) {
  struct control *control = owner;
  control->busy = 0;
  if (control->state >= CONTROL_LEAVING) /* the worker has no use for the session any more */
    return;
  if (control->state == CONTROL_CHECKING) {
    log_pooler(control);
    check_schema(control);
    return;
  }
  lock_row(control);
  start_listening(control);
  extend(control);
  look_for_dead_workers(control);
  on_heartbeat(&control->timer);
}

static void on_down(void *owner, const char *reason) {
  struct control *control = owner;
  (void)reason;
  control->busy = 0;
  doorbell_down(control->bell);
  dead_workers_stop(control->dead);
  regions_down(control->regions);
  if (control->state >= CONTROL_LEAVING) /* the row stays until another worker finds that this one is silent */
    uv_timer_start(&control->timer, on_leave_timeout, 0, 0);
}

static void take_check(struct control *control, const PGresult *result) {
  if (PQntuples(result) > 0) {
    control->events->unfit(control->owner, PQgetvalue(result, 0, 0), *PQgetvalue(result, 0, 1));
    return;
  }
  if (control->state != CONTROL_CHECKING)
    return;
  control->state = CONTROL_JOINING;
  uv_timer_start(&control->timer, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
  extend_in(control, INT64_MAX);
  add_row(control); /* before it claims: the leases of a worker name its row */
  start_listening(control);
}

/* ── results ── */

/* Returns the server's message, or libpq's own message if the connection was lost. */
static const char *error_text(const PGresult *result) {
  const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  return primary ? primary : PQresultErrorMessage(result);
}

static void fail_row(struct control *control, const char *error) {
  log_line(control->row_failure_logged ? LOG_DEBUG : LOG_WARN,
           "cannot write this worker's row in pgq_workers: trying again", LOG_T("error", error),
           LOG_US("retry_in", HEARTBEAT_MS * 1000));
  control->row_failure_logged = true;
}

static void fail_extending(struct control *control, const char *error) {
  log_line(control->extend_failure_logged ? LOG_DEBUG : LOG_WARN, "cannot extend leases: trying again",
           LOG_T("error", error), LOG_US("retry_in", LOST_AGAIN_MS * 1000));
  control->extend_failure_logged = true;
  extend_in(control, LOST_AGAIN_MS);
}

/* The worker continues without its row or its leases. Each of these failures is logged once. */
static void take_failure(struct control *control, enum statement statement, const PGresult *result) {
  if (statement == STATEMENT_CHECK_SCHEMA)
    log_error("cannot check the tables of the database: connecting again", LOG_T("error", error_text(result)));
  else if (statement == STATEMENT_FIND_CANCELLED)
    log_warn("cannot look for cancelled jobs: the next extension of the leases finds them",
             LOG_T("error", error_text(result)));
  else if (statement == STATEMENT_EXTEND_LEASES)
    fail_extending(control, error_text(result));
  else
    fail_row(control, error_text(result));
  if (statement == STATEMENT_WORKER_LOCK)
    uv_timer_start(&control->lock_timer, on_lock_timer, LOCK_AGAIN_MS, 0);
}

/* A job whose lease was lost may have been completed by its own transaction: then it ends at once, and its lease is not
 * checked again. */
static void take_lost_leases(struct control *control, const PGresult *result) {
  int ignored = 0;
  for (int row = 0; row < PQntuples(result); row++)
    if (*PQgetvalue(result, row, 1))
      slot_list_lease_lost(control->slots, result_i64(result, row, 0));
    else
      ignored++;
  if (ignored > 0)
    fail_extending(control, "the UPDATE changes no row: is there a trigger, rule or row security on pgq_jobs?");
  else
    control->extend_failure_logged = false;
  if (PQntuples(result) > 0)
    extend_in(control, LOST_AGAIN_MS);
}

static void take_heartbeat(struct control *control, const PGresult *result) {
  bool written = *PQgetvalue(result, 0, 0), exists = *PQgetvalue(result, 0, 1);
  if (written) {
    control->row_failure_logged = false;
  } else if (exists) {
    fail_row(control, "the UPDATE changes no row: is there a trigger, rule or row security on pgq_workers?");
  } else { /* the row was deleted, or the table was created anew */
    control->worker_id = 0;
    add_row(control);
  }
}

static void take_row(struct control *control, const PGresult *result) {
  if (PQntuples(result) == 0) {
    fail_row(control, "the INSERT adds no row: is there a trigger or rule on pgq_workers?");
    return;
  }
  control->worker_id = result_i64(result, 0, 0);
  token_set_worker(control->worker_id);
  look_for_dead_workers(control);
  doorbell_ask_peers(control->bell);
  control->row_failure_logged = false;
  take_lock(control, result, 1);
}

static void on_result(void *owner, enum statement statement, PGresult *result) {
  struct control *control = owner;
  control->other_answered =
      doorbell_result(control->bell, statement, result) || regions_result(control->regions, statement, result);
  if (control->other_answered || dead_workers_result(control->dead, statement, result))
    return;
  if (result_failed(result)) {
    take_failure(control, statement, result);
    return;
  }
  switch (statement) {
  case STATEMENT_CHECK_SCHEMA:
    take_check(control, result);
    break;
  case STATEMENT_WORKER_ADD:
    take_row(control, result);
    break;
  case STATEMENT_WORKER_LOCK:
    take_lock(control, result, 0);
    break;
  case STATEMENT_WORKER_HEARTBEAT:
    take_heartbeat(control, result);
    break;
  case STATEMENT_EXTEND_LEASES:
    take_lost_leases(control, result);
    break;
  case STATEMENT_FIND_CANCELLED:
    cancellations_take(control->cancellations, result);
    break;
  default:
    break;
  }
}

static void leave(struct control *control) {
  control->state = CONTROL_LEFT;
  uv_timer_stop(&control->timer);
  control->events->left(control->owner);
}

/* No act is under way: takes the next step. */
static void advance(struct control *control) {
  switch (control->state) {
  case CONTROL_CHECKING:
    connection_fail(control->connection, "the tables could not be checked");
    break;
  case CONTROL_JOINING:
    control->state = CONTROL_SERVING;
    control->events->checked(control->owner);
    break;
  case CONTROL_LEAVING:
    if (control->worker_id == 0) {
      leave(control);
      break;
    }
    control->state = CONTROL_REMOVING;
    act_on_row(control, STATEMENT_WORKER_REMOVE);
    break;
  case CONTROL_REMOVING:
    leave(control);
    break;
  case CONTROL_SERVING:
  case CONTROL_LEFT:
    break;
  }
}

static void on_synced(void *owner) {
  struct control *control = owner;
  if (control->other_answered)
    return;
  control->busy -= control->busy > 0;
  connection_works(control->connection);
  if (control->busy == 0)
    advance(control);
}

static void on_notified(void *owner, const char *channel, const char *payload, int pid) {
  struct control *control = owner;
  char *rest;
  if (strcmp(channel, "pgq_cancel") != 0) {
    doorbell_notified(control->bell, payload, pid);
    return;
  }
  /* The oid of the table is not compared: the table may have been created anew, and the row is looked at anyway. */
  (void)strtoll(payload, &rest, 10);
  if (*rest == ':')
    cancellations_notified(control->cancellations, strtoll(rest + 1, NULL, 10));
}

/* ── leaving ── */

static void on_leave_timeout(uv_timer_t *timer) {
  struct control *control = timer->data;
  if (control->state != CONTROL_LEFT)
    leave(control);
}

void control_leave(struct control *control) {
  bool reachable = connection_is_up(control->connection);
  control->state = CONTROL_LEAVING;
  dead_workers_stop(control->dead);
  control->other_answered = false;
  uv_timer_start(&control->timer, on_leave_timeout, reachable ? LEAVE_TIMEOUT_MS : 0, 0);
  if (reachable && control->busy == 0)
    advance(control);
}
