#ifndef PGQ_CONTROL_H
#define PGQ_CONTROL_H

#include <stdbool.h>
#include <uv.h>

#include "connection.h"
#include "options.h"
#include "queue.h"
#include "slot_list.h"
#include "wakeup.h"

/*
 * The control session of a worker. It finds out whether a pooler is in between, checks that the database has the
 * tables, keeps the worker's row in pgq_workers, deletes the rows of dead workers, extends the leases of all holds, and
 * listens to the doorbell and to cancellations of jobs.
 */
struct control;

struct control_events {
  /* The tables are there, the worker has its row, and it is known whether other workers have died. Called once. */
  void (*checked)(void *owner);
  /* The database has no `what`: "table pgq_jobs", or "column pgq_jobs.attempt". */
  void (*lacking)(void *owner, const char *what);
  /* The row of a dead worker was deleted. It had been started on `host` as process `pid`. */
  void (*worker_died)(void *owner, const char *host, int pid);
  /* After control_leave(): the row is deleted, or could not be deleted in time. Called once. */
  void (*left)(void *owner);
};

/*
 * control_new(loop, options, queues, mode, wakeup, slots, events, owner): connects at once. All of them must outlive
 * the control. The control gives its doorbell to the wakeup for as long as it lives, and tells the slots which of their
 * leases are lost and which of their jobs are cancelled.
 */
struct control *control_new(uv_loop_t *loop, const struct options *options, const struct queue_list *queues,
                            struct session_mode *mode, struct wakeup *wakeup, struct slot_list *slots,
                            const struct control_events *events, void *owner);

/* control_leave(control): deletes the worker's row. left() follows within two seconds; it may be called at once. */
void control_leave(struct control *control);

/* control_free(control): NULL is allowed. */
void control_free(struct control *control);

#endif
