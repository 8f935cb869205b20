#include "capacity.h"

#include <string.h>

#include "protocol.h"

/* What is with an executor: jobs that share its concurrency, those that are transactional, and of all its jobs those
 * that are leased: these wait, and not just for a moment. */
struct load {
  int32_t shared, transactional, leased;
};

/*
 * Of a queue of which so many jobs are with the executor. Where jobs end within milliseconds there may be twice as
 * many, in two batches: while one is settled the other runs. But not behind jobs that do not end.
 */
static int32_t room_for(const struct queue *queue, const struct options *options, int32_t running, struct load load) {
  int32_t concurrency = (int32_t)options->concurrency, connections = (int32_t)TRANSACTIONAL_MOST(options->pool);
  if (!queue_waits(queue))
    return INT32_MAX;
  int32_t ahead = queue_is_brief(queue) && load.leased <= concurrency / 2 ? concurrency - 2 * load.leased : 0;
  int32_t room = concurrency - load.shared;
  room = room < concurrency - ahead ? room + ahead : concurrency;
  if (queue->concurrency > 0)
    room = queue->concurrency - running;
  if (queue->transactional && room > connections - load.transactional)
    room = connections - load.transactional;
  return room > 0 ? room : 0;
}

void capacity_find(struct hold *const *holds, struct queue *const *queues, uint32_t count,
                   const struct options *options, int32_t *room) {
  struct load load = {0};
  memset(room, 0, count * sizeof *room);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++) {
    hold_count_running(holds[lane], room, count);
    load.leased += hold_count_leased(holds[lane]);
  }
  for (uint32_t i = 0; i < count; i++) {
    load.shared += queue_waits(queues[i]) && queues[i]->concurrency == 0 ? room[i] : 0;
    load.transactional += queues[i]->transactional ? room[i] : 0;
  }
  for (uint32_t i = 0; i < count; i++)
    room[i] = room_for(queues[i], options, room[i], load);
}
