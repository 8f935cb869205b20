#include "capacity.h"

#include <string.h>

#include "protocol.h"

/* The numbers of jobs that are with an executor: those that share its concurrency, the transactional ones, and the
 * leased ones of all kinds, whose handlers have waited for a while. */
struct load {
  int32_t shared, transactional, leased;
};

/*
 * Returns the capacity for a queue of which `running` jobs are with the executor. If jobs end within milliseconds,
 * there may be twice as many, in two batches: one runs while the other is settled. Leased jobs reduce this, since they
 * take longer.
 */
static int32_t capacity_of(const struct queue *queue, const struct options *options, int32_t running,
                           struct load load) {
  int32_t concurrency = (int32_t)options->concurrency, connections = (int32_t)TRANSACTIONAL_MOST(options->pool);
  if (!queue_handlers_wait(queue))
    return INT32_MAX;
  int32_t ahead = queue_is_brief(queue) && load.leased <= concurrency / 2 ? concurrency - 2 * load.leased : 0;
  int32_t capacity = concurrency - load.shared;
  capacity = capacity < concurrency - ahead ? capacity + ahead : concurrency;
  if (queue->concurrency > 0)
    capacity = queue->concurrency - running;
  if (queue->transactional && capacity > connections - load.transactional)
    capacity = connections - load.transactional;
  return capacity > 0 ? capacity : 0;
}

void capacity_find(struct hold *const *holds, struct queue *const *queues, uint32_t count,
                   const struct options *options, int32_t *capacity) {
  struct load load = {0};
  int32_t *running = capacity; /* the array first has the jobs of each queue that are with the executor */
  memset(running, 0, count * sizeof *running);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++) {
    hold_count_running(holds[lane], running, count);
    load.leased += hold_count_leased(holds[lane]);
  }
  for (uint32_t i = 0; i < count; i++) {
    load.shared += queue_handlers_wait(queues[i]) && queues[i]->concurrency == 0 ? running[i] : 0;
    load.transactional += queues[i]->transactional ? running[i] : 0;
  }
  for (uint32_t i = 0; i < count; i++)
    capacity[i] = capacity_of(queues[i], options, running[i], load);
}
