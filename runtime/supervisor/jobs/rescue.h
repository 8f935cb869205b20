#ifndef PGQ_RESCUE_H
#define PGQ_RESCUE_H

#include <stdbool.h>

#include "batch.h"
#include "lease.h"
#include "statements.h"

/*
 * Outcomes that could not be written, because their session was lost or their act failed: kept until their rows can be
 * locked again. Zeroed: none.
 */
struct rescue {
  struct batch jobs;
  bool singly; /* one of them makes the settling fail: one at a time */
};

void rescue_free(struct rescue *rescue);

/* rescue_keep(rescue, batch): takes over all jobs of the batch that have something to be written. The batch is empty.
 */
void rescue_keep(struct rescue *rescue, struct batch *batch);

/* rescue_next(rescue, batch, parameters): moves all of them, or the next one, to the batch; the parameters are those of
 * STATEMENT_LOCK_FOR_RESCUE. */
void rescue_next(struct rescue *rescue, struct batch *batch, struct parameters *parameters);

/*
 * rescue_drop_unlocked(batch, lost, context): forgets those of the batch that could not be locked; lost(context, id) is
 * called for each that was to be leased.
 */
void rescue_drop_unlocked(struct batch *batch, void (*lost)(void *context, int64_t id), void *context);

/*
 * rescue_blame(batch, message, lost, context): the one job of the batch cannot be settled, not even alone: it is to be
 * marked as failed with the database's message. When that has been tried already, it is forgotten.
 */
void rescue_blame(struct batch *batch, const char *message, void (*lost)(void *context, int64_t id), void *context);

#endif
