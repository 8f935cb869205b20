#ifndef PGQ_CANCELLATIONS_H
#define PGQ_CANCELLATIONS_H

#include <libpq-fe.h>
#include <stdint.h>
#include <uv.h>

#include "binary.h"
#include "slot_list.h"

/*
 * Jobs that other sessions have cancelled. Every role may send a notification with any content, so that a notification
 * is no proof: the worker looks at the rows, and it looks a few times a second at most, however many notifications
 * come.
 */
struct cancellations;

/*
 * Creates the object. `look(owner, parameters)` sends STATEMENT_FIND_CANCELLED and returns whether it was sent; it is
 * called from the loop.
 */
struct cancellations *cancellations_new(uv_loop_t *loop, struct slot_list *slots,
                                        bool (*look)(void *owner, const struct parameters *parameters), void *owner);

/* Stops looking; frees the object in a later turn of the loop. NULL is allowed. */
void cancellations_free(struct cancellations *cancellations);

/* A notification says that the job was cancelled. Notifications about jobs that this worker has not leased are dropped.
 */
void cancellations_notified(struct cancellations *cancellations, int64_t id);

/* Takes the answer of STATEMENT_FIND_CANCELLED: the handlers of these jobs are ended. */
void cancellations_take(struct cancellations *cancellations, const PGresult *result);

#endif
