#ifndef PGQ_CONTROL_H
#define PGQ_CONTROL_H

#include <stdbool.h>
#include <uv.h>

#include "queue.h"

/*
 * The control connection: checks at start that the tables are there, and keeps this worker's row in pgq_workers while
 * it runs.
 */
struct control;

struct control_events {
  /* The database is reached and has what the worker needs. Once. */
  void (*checked)(void *owner);
  /* It lacks something: `what` is "table pgq_jobs" or "column pgq_jobs.attempt". */
  void (*lacking)(void *owner, const char *what);
  /* After control_leave(): the row is gone, or could not be removed in time. */
  void (*left)(void *owner);
};

/* control_new(loop, conninfo, queues, events, owner): `queues` must outlive it. Connects at once. */
struct control *control_new(uv_loop_t *loop, const char *conninfo, const struct queue_list *queues,
                            const struct control_events *events, void *owner);

/* control_leave(control): removes the row; left() follows, within two seconds. */
void control_leave(struct control *control);

/* control_free(control): NULL is allowed. */
void control_free(struct control *control);

#endif
