#ifndef PGQ_RETENTION_H
#define PGQ_RETENTION_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "connection.h"
#include "options.h"
#include "statements.h"

/*
 * Deletes old rows: jobs that ended long ago, attempts, statistics, and the notes of what operators did. Of all workers
 * the oldest one does it, with its own options. It has a session of its own for that, for as long as there is something
 * to delete, so that neither claims nor leases wait. It deletes in small steps, and rests after each of them.
 */
struct retention;

/*
 * retention_new(loop, options, mode, worker_id, act, owner): act(owner, statement, parameters) sends a statement in the
 * control session and returns whether that was possible. *worker_id is 0 while the worker has no row. All of them must
 * outlive the object.
 */
struct retention *retention_new(uv_loop_t *loop, const struct options *options, struct session_mode *mode,
                                const int64_t *worker_id,
                                bool (*act)(void *owner, enum statement statement, const struct parameters *parameters),
                                void *owner);

/* retention_start(retention): old rows are looked for soon, and then every minute. Does nothing the second time. */
void retention_start(struct retention *retention);

/* retention_stop(retention): nothing more is deleted. */
void retention_stop(struct retention *retention);

/* retention_result(retention, statement, result): takes the answer if the statement is STATEMENT_IS_OLDEST_WORKER.
 * Returns whether it is. */
bool retention_result(struct retention *retention, enum statement statement, const PGresult *result);

/* retention_free(retention): frees the object in a later turn of the loop. NULL is allowed. */
void retention_free(struct retention *retention);

#endif
