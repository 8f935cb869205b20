#ifndef PGQ_CAPACITY_H
#define PGQ_CAPACITY_H

#include <stdint.h>

#include "hold.h"
#include "options.h"
#include "queue.h"

/*
 * capacity_find(holds, queues, count, options, capacity): sets capacity[i] to the number of further jobs of queues[i]
 * that the executor can take; INT32_MAX means no limit. `holds` are the executor's HOLDS_PER_EXECUTOR holds.
 *
 * Handlers that never wait need no limit: they run one after the other. Of jobs whose handlers wait, a limited number
 * may be in flight: `concurrency` of the options, shared by all queues without a limit of their own. Transactional jobs
 * each need a connection of the pool, which `pool` of the options limits.
 */
void capacity_find(struct hold *const *holds, struct queue *const *queues, uint32_t count,
                   const struct options *options, int32_t *capacity);

#endif
