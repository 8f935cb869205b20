#ifndef PGQ_CAPACITY_H
#define PGQ_CAPACITY_H

#include <stdint.h>

#include "hold.h"
#include "options.h"
#include "queue.h"

/*
 * For how many more jobs of each queue an executor has room. Handlers that run through need none: they run one after
 * the other. Of those that wait, so many may be in flight.
 *
 * capacity_find(holds, queues, count, options, room): of each queue, in the executor's order, with these holds of the
 * executor (HOLDS_PER_EXECUTOR). Of the options, `concurrency` is what all queues share that have no limit of their
 * own, and `pool` bounds what the transactional ones have together. INT32_MAX: no limit.
 */
void capacity_find(struct hold *const *holds, struct queue *const *queues, uint32_t count,
                   const struct options *options, int32_t *room);

#endif
