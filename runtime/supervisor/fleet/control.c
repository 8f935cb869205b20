#include "control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cancellations.h"
#include "clock.h"
#include "connection.h"
#include "dead_workers.h"
#include "doorbell.h"
#include "log.h"
#include "memory.h"
#include "queue_settings.h"
#include "regions.h"
#include "retention.h"
#include "samples.h"
#include "stats.h"
#include "worker_row.h"

enum { LEAVE_TIMEOUT_MS = 2000 };

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
  struct worker_row *row;
  struct stats *stats;
  struct retention *retention;
  struct queue_settings *settings;
  struct samples *samples; /* NULL: nobody asks for metrics */
  const struct options *options;
  const struct queue_list *queues;
  const struct control_events *events;
  void *owner;
  enum control_state state;
  uv_timer_t timer;        /* until the next heartbeat; after control_leave(), until leaving has taken too long */
  uv_timer_t extend_timer; /* until leases are extended */
  int busy;                /* acts without an answer, other than those of the doorbell, the regions and the samples */
  bool other_answered;     /* the act that was answered last is one of theirs */
  bool wrote_last;         /* leaving: the last share of the statistics was sent */
  bool pooler_logged, extend_failure_logged;
};

static void on_extend_timer(uv_timer_t *timer);
static void on_leave_timeout(uv_timer_t *timer);
static void on_up(void *owner);
static void on_down(void *owner, const char *reason);
static void on_result(void *owner, enum statement statement, PGresult *result);
static void on_synced(void *owner);
static void on_notified(void *owner, const char *channel, const char *payload, int pid);
static bool on_look(void *owner, const struct parameters *parameters);
static bool on_ask(void *owner, enum statement statement, const struct parameters *parameters);

static const struct connection_events connection_events = {on_up, on_down, on_result, on_synced, on_notified};

static void act_for_owner(void *owner, enum statement statement, const struct parameters *parameters);
static void on_jobs_freed(void *owner);
static void on_row_added(void *owner);
static void on_requested(void *owner, const char *request);

static const struct dead_workers_events dead_workers_events = {act_for_owner, on_jobs_freed};
static const struct worker_row_events worker_row_events = {act_for_owner, on_row_added, on_requested};

struct control *control_new(uv_loop_t *loop, const struct options *options, const struct queue_list *queues,
                            struct session_mode *mode, struct wakeup *wakeup, struct slot_list *slots,
                            struct frontier *frontier, struct history *history, struct status *status,
                            const struct control_events *events, void *owner) {
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
  control->timer.data = control->extend_timer.data = control;
  control->connection = connection_new(loop, "control", options->db, 0, mode, &connection_events, control);
  control->dead = dead_workers_new(loop, &dead_workers_events, control);
  control->row = worker_row_new(loop, control->connection, queues, mode, history, status, &worker_row_events, control);
  control->bell = doorbell_new(loop, control->connection, worker_row_id(control->row), queues, wakeup);
  control->stats = stats_new(queues, act_for_owner, control);
  control->retention = retention_new(loop, options, mode, worker_row_id(control->row), on_ask, control);
  control->regions = regions_new(control->connection, worker_row_id(control->row), frontier);
  wakeup_set_doorbell(wakeup, control->bell);
  control->cancellations = cancellations_new(loop, slots, on_look, control);
  control->settings = queue_settings_new(loop, queues, slots, wakeup, on_ask, control);
  if (options->listen && *options->listen)
    control->samples = samples_new(loop, control->connection, queues);
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

void control_free(struct control *control) {
  if (!control)
    return;
  uv_timer_stop(&control->timer); /* the timers may be due now, and are closed later */
  uv_timer_stop(&control->extend_timer);
  wakeup_set_doorbell(control->wakeup, NULL);
  connection_free(control->connection);
  doorbell_free(control->bell);
  cancellations_free(control->cancellations);
  queue_settings_free(control->settings);
  samples_free(control->samples);
  dead_workers_free(control->dead);
  regions_free(control->regions);
  worker_row_free(control->row);
  stats_free(control->stats);
  retention_free(control->retention);
  uv_close((uv_handle_t *)&control->extend_timer, close_timer);
}

/* ── statements ── */

/* Sends an act of one statement. Several acts may be under way. */
static void act(struct control *control, enum statement statement, const struct parameters *parameters) {
  control->busy++;
  connection_send(control->connection, statement, parameters);
  connection_sync(control->connection);
}

/* Sends an act for a module that can do without it. */
static bool act_if_up(struct control *control, enum statement statement, const struct parameters *parameters) {
  if (!connection_is_up(control->connection) || control->state >= CONTROL_REMOVING)
    return false;
  act(control, statement, parameters);
  return true;
}

static bool on_look(void *owner, const struct parameters *parameters) {
  return act_if_up(owner, STATEMENT_FIND_CANCELLED, parameters);
}

static bool on_ask(void *owner, enum statement statement, const struct parameters *parameters) {
  return act_if_up(owner, statement, parameters);
}

static void act_for_owner(void *owner, enum statement statement, const struct parameters *parameters) {
  act(owner, statement, parameters);
}

static void on_jobs_freed(void *owner) {
  const struct control *control = owner;
  wakeup_rung(control->wakeup);
}

static void check_schema(struct control *control) {
  struct parameters parameters = {0};
  parameters_add_bool(&parameters, false);
  act(control, STATEMENT_CHECK_SCHEMA, &parameters);
  parameters_free(&parameters);
}

/* Listens to rings, cancellations and operators, and then reads what operators have said before. LISTEN lasts only in a
 * session of our own. */
static void start_listening(struct control *control) {
  if (control->mode->kind == SESSION_OWN) {
    act(control, STATEMENT_CANCEL_LISTEN, NULL);
    act(control, STATEMENT_CONTROL_LISTEN, NULL);
    doorbell_open(control->bell);
    doorbell_ask_peers(control->bell);
  }
  queue_settings_read(control->settings);
}

/* Sends a heartbeat, or adds the worker's row if it is missing; and what else is done as often. */
static void beat(struct control *control) {
  bool exists = *worker_row_id(control->row) != 0;
  worker_row_write(control->row);
  worker_row_take_request(control->row);
  queue_settings_read(control->settings);
  stats_write(control->stats);
  if (!exists)
    return;
  doorbell_check_table(control->bell);
  doorbell_ask_peers(control->bell);
}

static void on_heartbeat(uv_timer_t *timer) {
  struct control *control = timer->data;
  if (connection_is_up(control->connection) && control->busy == 0)
    beat(control);
}

static void look_for_dead_workers(struct control *control) {
  int64_t worker_id = *worker_row_id(control->row);
  if (worker_id != 0 && control->state < CONTROL_LEAVING)
    dead_workers_look(control->dead, worker_id);
}

static void on_requested(void *owner, const char *request) {
  const struct control *control = owner;
  if (control->state < CONTROL_LEAVING)
    control->events->requested(control->owner, request);
}

static void on_row_added(void *owner) {
  struct control *control = owner;
  look_for_dead_workers(control);
  doorbell_ask_peers(control->bell);
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
  worker_row_lock(control->row);
  beat(control); /* at once: until the row says that the worker is back, its lock counts as free all the time */
  start_listening(control);
  extend(control);
  look_for_dead_workers(control);
  if (control->state == CONTROL_SERVING)
    samples_up(control->samples);
}

static void on_down(void *owner, const char *reason) {
  struct control *control = owner;
  (void)reason;
  control->busy = 0;
  doorbell_down(control->bell);
  dead_workers_stop(control->dead);
  regions_down(control->regions);
  stats_down(control->stats);
  queue_settings_down(control->settings);
  samples_down(control->samples);
  if (control->state >= CONTROL_LEAVING) /* the row stays until another worker finds that this one is silent */
    uv_timer_start(&control->timer, on_leave_timeout, 0, 0);
}

static void take_check(struct control *control, const PGresult *result) {
  if (PQntuples(result) > 0) {
    control->events->unfit(control->owner, PQgetvalue(result, 0, 0), *PQgetvalue(result, 0, 1));
    return;
  }
  control->mode->checked_ms = clock_ms();
  if (control->state != CONTROL_CHECKING)
    return;
  control->state = CONTROL_JOINING;
  uv_timer_start(&control->timer, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
  extend_in(control, INT64_MAX);
  worker_row_write(control->row); /* before it claims: the leases of a worker name its row */
  start_listening(control);
}

/* ── results ── */

/* Returns the server's message, or libpq's own message if the connection was lost. */
static const char *error_text(const PGresult *result) {
  const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  return primary ? primary : PQresultErrorMessage(result);
}

static void fail_extending(struct control *control, const char *error) {
  log_line(control->extend_failure_logged ? LOG_DEBUG : LOG_WARN, "cannot extend leases: trying again",
           LOG_T("error", error), LOG_US("retry_in", LOST_AGAIN_MS * 1000));
  control->extend_failure_logged = true;
  extend_in(control, LOST_AGAIN_MS);
}

/* The worker continues. A failure to extend leases is logged once. */
static void take_failure(struct control *control, enum statement statement, const PGresult *result) {
  if (statement == STATEMENT_CHECK_SCHEMA)
    log_error("cannot check the tables of the database: connecting again", LOG_T("error", error_text(result)));
  else if (statement == STATEMENT_FIND_CANCELLED)
    log_warn("cannot look for cancelled jobs: the next extension of the leases finds them",
             LOG_T("error", error_text(result)));
  else if (statement == STATEMENT_EXTEND_LEASES)
    fail_extending(control, error_text(result));
  else
    log_debug("a statement of the control session failed", LOG_T("error", error_text(result)));
}

/* A job whose lease was lost may have been completed by its own transaction: then it ends at once, and its lease is not
 * checked again. */
static void take_lost_leases(struct control *control, const PGresult *result) {
  int ignored = 0;
  for (int row = 0; row < PQntuples(result); row++) {
    int64_t id = result_i64(result, row, 0);
    if (*PQgetvalue(result, row, 2))
      slot_list_cancel(control->slots, id);
    else if (*PQgetvalue(result, row, 1))
      slot_list_lease_lost(control->slots, id);
    else
      ignored++;
  }
  if (ignored > 0)
    fail_extending(control, "the UPDATE changes no row: is there a trigger, rule or row security on pgq_jobs?");
  else
    control->extend_failure_logged = false;
  if (PQntuples(result) > 0)
    extend_in(control, LOST_AGAIN_MS);
}

static void on_result(void *owner, enum statement statement, PGresult *result) {
  struct control *control = owner;
  control->other_answered = doorbell_result(control->bell, statement, result) ||
                            regions_result(control->regions, statement, result) ||
                            samples_result(control->samples, statement, result);
  if (control->other_answered || dead_workers_result(control->dead, statement, result) ||
      worker_row_result(control->row, statement, result) || stats_result(control->stats, statement, result) ||
      retention_result(control->retention, statement, result) ||
      queue_settings_result(control->settings, statement, result))
    return;
  if (result_failed(result)) {
    take_failure(control, statement, result);
    return;
  }
  switch (statement) {
  case STATEMENT_CHECK_SCHEMA:
    take_check(control, result);
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

/* The worker serves its queues once it knows which of them are paused. */
static void join(struct control *control) {
  if (!queue_settings_are_known(control->settings)) /* they are read again soon */
    return;
  control->state = CONTROL_SERVING;
  retention_start(control->retention);
  samples_up(control->samples);
  control->events->checked(control->owner);
}

/* No act is under way: takes the next step. */
static void advance(struct control *control) {
  switch (control->state) {
  case CONTROL_CHECKING:
    connection_fail(control->connection, "the tables could not be checked");
    break;
  case CONTROL_JOINING:
    join(control);
    break;
  case CONTROL_LEAVING:
    if (!control->wrote_last) {
      control->wrote_last = true;
      if (stats_write(control->stats))
        break;
    }
    if (*worker_row_id(control->row) == 0) {
      leave(control);
      break;
    }
    control->state = CONTROL_REMOVING;
    worker_row_remove(control->row);
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
  /* The oid of the table is not compared: the table may have been created anew, and the rows are looked at anyway. */
  (void)strtoll(payload, &rest, 10);
  if (strcmp(channel, "pgq_control") == 0) {
    if (strcmp(rest, ":queues") == 0)
      queue_settings_notified(control->settings);
    else if (strncmp(rest, ":worker:", 8) == 0 && strtoll(rest + 8, NULL, 10) == *worker_row_id(control->row))
      worker_row_take_request(control->row);
  } else if (strcmp(channel, "pgq_cancel") != 0) {
    doorbell_notified(control->bell, payload, pid);
  } else if (*rest == ':') {
    cancellations_notified(control->cancellations, strtoll(rest + 1, NULL, 10));
  }
}

void control_queues_changed(struct control *control) {
  worker_row_write_queues(control->row);
  doorbell_queues_changed(control->bell);
  queue_settings_read(control->settings);
}

/* ── leaving ── */

static void on_leave_timeout(uv_timer_t *timer) {
  struct control *control = timer->data;
  if (control->state != CONTROL_LEFT)
    leave(control);
}

bool control_is_up(const struct control *control) {
  return connection_is_up(control->connection);
}

struct xmin_sample control_xmin(const struct control *control) {
  return samples_xmin(control->samples);
}

struct database_name control_database(const struct control *control) {
  return connection_database(control->connection);
}

void control_leave(struct control *control) {
  bool reachable = connection_is_up(control->connection);
  control->state = CONTROL_LEAVING;
  dead_workers_stop(control->dead);
  worker_row_leave(control->row);
  retention_stop(control->retention);
  samples_down(control->samples);
  control->other_answered = false;
  uv_timer_start(&control->timer, on_leave_timeout, reachable ? LEAVE_TIMEOUT_MS : 0, 0);
  if (reachable && control->busy == 0)
    advance(control);
}
