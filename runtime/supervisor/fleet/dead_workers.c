#include "dead_workers.h"

#include <stdlib.h>

#include "connection.h"
#include "log.h"
#include "memory.h"

/* How often to look, and for how long a worker's lock must have been free. In a large fleet each worker looks less
 * often, since a look costs the server a little for each worker; but not so rarely that the last one that lives would
 * find the others dead too late. */
enum { LOOK_MS = 1000, FREE_MS = 5000, LOOK_WORKERS = 16, LOOKS_APART_MOST = 2 };

/* A look is made this long after the time that the database has computed for it, and up to SPREAD_MS later: the workers
 * of a fleet that has started at once should not look at once. */
enum { MARGIN_MS = 20, SPREAD_MS = 256 };

struct dead_workers {
  const struct dead_workers_events *events;
  void *owner;
  uv_timer_t timer;
  int64_t worker_id;
  int64_t look_every_ms;
  bool looking; /* a look is under way */
  bool failure_logged;
};

struct dead_workers *dead_workers_new(uv_loop_t *loop, const struct dead_workers_events *events, void *owner) {
  struct dead_workers *dead = memory_new(sizeof *dead);
  *dead = (struct dead_workers){.events = events, .owner = owner, .look_every_ms = LOOK_MS};
  uv_timer_init(loop, &dead->timer);
  dead->timer.data = dead;
  return dead;
}

static void free_dead_workers(uv_handle_t *timer) {
  free(timer->data);
}

void dead_workers_free(struct dead_workers *dead) {
  if (dead)
    uv_close((uv_handle_t *)&dead->timer, free_dead_workers);
}

static void act(struct dead_workers *dead, enum statement statement, int64_t worker_id) {
  struct parameters parameters = {0};
  parameters_add_i64(&parameters, worker_id);
  parameters_add_i64(&parameters, FREE_MS);
  dead->events->act(dead->owner, statement, &parameters);
  parameters_free(&parameters);
}

static void on_timer(uv_timer_t *timer) {
  struct dead_workers *dead = timer->data;
  uv_timer_start(timer, on_timer, (uint64_t)dead->look_every_ms, 0);
  if (dead->looking) /* the server is slow */
    return;
  dead->looking = true;
  act(dead, STATEMENT_FIND_DEAD_WORKERS, dead->worker_id);
}

void dead_workers_look(struct dead_workers *dead, int64_t worker_id) {
  dead->worker_id = worker_id;
  dead->looking = false;
  on_timer(&dead->timer);
}

void dead_workers_stop(struct dead_workers *dead) {
  uv_timer_stop(&dead->timer);
}

/* Looks after `wait_ms`, or sooner if that was planned. */
static void look_within(struct dead_workers *dead, int64_t wait_ms) {
  uint64_t due_ms = (uint64_t)(wait_ms > 0 ? wait_ms : 0) + MARGIN_MS;
  if (uv_is_active((uv_handle_t *)&dead->timer) && due_ms < uv_timer_get_due_in(&dead->timer))
    uv_timer_start(&dead->timer, on_timer, due_ms, 0);
}

static void take_found(struct dead_workers *dead, const PGresult *result) {
  int last = PQntuples(result) - 1;
  for (int row = 0; row < last; row++)
    act(dead, STATEMENT_END_DEAD_WORKER, result_i64(result, row, DEAD_WORKERS_ID));
  if (last < 0)
    return;
  int64_t others = result_i64(result, last, DEAD_WORKERS_OTHERS), spread_ms = dead->worker_id * 37 % SPREAD_MS;
  int64_t apart = 1 + others / LOOK_WORKERS;
  if (others < LOOK_WORKERS)
    spread_ms = 0;
  dead->look_every_ms = LOOK_MS * (apart < LOOKS_APART_MOST ? apart : LOOKS_APART_MOST) + spread_ms;
  if (!PQgetisnull(result, last, DEAD_WORKERS_WAIT_MS))
    look_within(dead, result_i64(result, last, DEAD_WORKERS_WAIT_MS) + spread_ms);
}

static void take_ended(struct dead_workers *dead, const PGresult *result) {
  if (PQntuples(result) == 0) /* the worker has come back, or another worker ends its leases */
    return;
  int64_t jobs = result_i64(result, 0, DEAD_WORKER_JOBS);
  if (jobs > 0 || *PQgetvalue(result, 0, DEAD_WORKER_DELETED))
    log_warn("a worker died: the jobs that it had leased run again",
             LOG_T("host", PQgetvalue(result, 0, DEAD_WORKER_HOST)),
             LOG_I("pid", result_i32(result, 0, DEAD_WORKER_PID)), LOG_I("jobs", jobs));
  if (*PQgetvalue(result, 0, DEAD_WORKER_DELETED)) /* there may be more */
    look_within(dead, 0);
  if (jobs > 0)
    dead->events->freed(dead->owner);
}

/* A failure is logged once. */
static void log_failure(struct dead_workers *dead, const PGresult *result) {
  const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  log_line(dead->failure_logged ? LOG_DEBUG : LOG_WARN, "cannot look for dead workers: trying again",
           LOG_T("error", message ? message : PQresultErrorMessage(result)), LOG_US("retry_in", LOOK_MS * 1000));
  dead->failure_logged = true;
}

bool dead_workers_result(struct dead_workers *dead, enum statement statement, const PGresult *result) {
  if (statement != STATEMENT_FIND_DEAD_WORKERS && statement != STATEMENT_END_DEAD_WORKER)
    return false;
  dead->looking = dead->looking && statement != STATEMENT_FIND_DEAD_WORKERS;
  if (result_failed(result)) {
    log_failure(dead, result);
    return true;
  }
  dead->failure_logged = false;
  if (statement == STATEMENT_FIND_DEAD_WORKERS)
    take_found(dead, result);
  else
    take_ended(dead, result);
  return true;
}
