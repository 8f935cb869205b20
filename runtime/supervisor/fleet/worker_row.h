#ifndef PGQ_WORKER_ROW_H
#define PGQ_WORKER_ROW_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "connection.h"
#include "history.h"
#include "queue.h"
#include "statements.h"
#include "status.h"

/*
 * The worker's row in pgq_workers, and the advisory lock on its id, which the control session has. The row shows others
 * that the worker lives, and leases name it. A worker whose row was deleted adds another one.
 */
struct worker_row;

struct worker_row_events {
  /* Sends an act of one statement in the control session, which is up. */
  void (*act)(void *owner, enum statement statement, const struct parameters *parameters);
  /* The row was added. */
  void (*added)(void *owner);
  /* An operator asks something of the worker: quiet, resume, stop or reload; any word. */
  void (*requested)(void *owner, const char *request);
};

/* How often the owner calls worker_row_write(). */
enum { HEARTBEAT_MS = 10000 };

/* worker_row_new(loop, connection, queues, mode, history, status, events, owner): all of them must outlive the object.
 * The history gets the worker's name, and the row's id once there is one. The status is written when it changes.
 * Nothing is sent yet. */
struct worker_row *worker_row_new(uv_loop_t *loop, const struct connection *connection, const struct queue_list *queues,
                                  const struct session_mode *mode, struct history *history, struct status *status,
                                  const struct worker_row_events *events, void *owner);

/* worker_row_free(row): frees the object in a later turn of the loop. NULL is allowed. */
void worker_row_free(struct worker_row *row);

/* worker_row_id(row): the id of the row, which is 0 while there is none. The pointer stays valid. */
const int64_t *worker_row_id(const struct worker_row *row);

/* worker_row_write(row): sends a heartbeat, or adds the row if it is missing. The session must be up. */
void worker_row_write(struct worker_row *row);

/* worker_row_take_request(row): looks whether an operator asks something of the worker; requested() follows. */
void worker_row_take_request(struct worker_row *row);

/* worker_row_write_queues(row): writes which queues the worker serves, after they have changed. */
void worker_row_write_queues(struct worker_row *row);

/* worker_row_lock(row): takes the lock of the row, which ends with each session. A worker without it counts as dead. To
 * be called in each new session. */
void worker_row_lock(struct worker_row *row);

/* worker_row_leave(row): the lock is not taken any more. worker_row_remove(row): deletes the row. */
void worker_row_leave(struct worker_row *row);
void worker_row_remove(struct worker_row *row);

/* worker_row_result(row, statement, result): takes the answer if the statement is one of the row's. Returns whether it
 * is. */
bool worker_row_result(struct worker_row *row, enum statement statement, const PGresult *result);

#endif
