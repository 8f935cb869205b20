#ifndef PGQ_DEAD_WORKERS_H
#define PGQ_DEAD_WORKERS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "statements.h"

/*
 * Looks for dead workers every second, and ends their leases, so that their jobs run again within seconds. A
 * worker holds an advisory lock as long as its control session lives. Whoever finds the lock free notes the time in the
 * worker's row; if the lock is still free five seconds later, the worker is dead. A worker that has only lost its
 * session takes the lock again within that time.
 */
struct dead_workers;

struct dead_workers_events {
  /* Sends one statement, as an act of its own, over the control session. */
  void (*act)(void *owner, enum statement statement, const struct parameters *parameters);
  /* Leases of a dead worker have ended: jobs are due. */
  void (*freed)(void *owner);
};

/* dead_workers_new(loop, events, owner): does not look yet. */
struct dead_workers *dead_workers_new(uv_loop_t *loop, const struct dead_workers_events *events, void *owner);

/* dead_workers_look(dead, worker_id): the control session is up and this worker has the row `worker_id`: looks now, and
 * from now on regularly. */
void dead_workers_look(struct dead_workers *dead, int64_t worker_id);

/* dead_workers_stop(dead): the control session is down, or the worker leaves: does not look any more. */
void dead_workers_stop(struct dead_workers *dead);

/* dead_workers_result(dead, statement, result): returns whether the statement was one of this module's. */
bool dead_workers_result(struct dead_workers *dead, enum statement statement, const PGresult *result);

/* dead_workers_free(dead): the memory is freed in the loop's next turn. NULL is allowed. */
void dead_workers_free(struct dead_workers *dead);

#endif
