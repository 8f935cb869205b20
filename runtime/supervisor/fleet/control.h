#ifndef PGQ_CONTROL_H
#define PGQ_CONTROL_H

#include <stdbool.h>
#include <uv.h>

#include "connection.h"
#include "frontier.h"
#include "history.h"
#include "options.h"
#include "queue.h"
#include "samples.h"
#include "slot_list.h"
#include "status.h"
#include "wakeup.h"

/*
 * The control session of a worker. It finds out whether there is a pooler between worker and server, checks that the
 * database has the tables, keeps the worker's row in pgq_workers, adds its numbers to pgq_stats, deletes the rows of
 * dead workers, extends the leases of all holds, and listens to the doorbell and to cancellations of jobs.
 */
struct control;

struct control_events {
  /* The tables exist, the worker has its row, and the control knows whether other workers have died. Called once. */
  void (*checked)(void *owner);
  /* The worker cannot work with the tables; `problem` is a text for people. `missing`: a table or column is missing. */
  void (*unfit)(void *owner, const char *problem, bool missing);
  /* An operator asks something of the worker: quiet, resume, stop or reload; any text. */
  void (*requested)(void *owner, const char *request);
  /* After control_leave(): the row is deleted, or could not be deleted in time. Called once. */
  void (*left)(void *owner);
};

/*
 * control_new(loop, options, queues, mode, wakeup, slots, frontier, history, status, events, owner): connects
 * at once. All of
 * them must outlive the control. The wakeup uses the control's doorbell until control_free(). The control tells the
 * slots which of their leases are lost and which of their jobs are cancelled.
 */
struct control *control_new(uv_loop_t *loop, const struct options *options, const struct queue_list *queues,
                            struct session_mode *mode, struct wakeup *wakeup, struct slot_list *slots,
                            struct frontier *frontier, struct history *history, struct status *status,
                            const struct control_events *events, void *owner);

/* control_queues_changed(control): the script was reloaded, and may register other queues than before. */
void control_queues_changed(struct control *control);

/* control_is_up(control): whether it has a session. control_xmin(control): see samples_xmin(). */
bool control_is_up(const struct control *control);
struct xmin_sample control_xmin(const struct control *control);

/* control_database(control): see connection_database(). */
struct database_name control_database(const struct control *control);

/* control_leave(control): deletes the worker's row. left() follows within two seconds; it may be called at once. */
void control_leave(struct control *control);

/* control_free(control): NULL is allowed. */
void control_free(struct control *control);

#endif
