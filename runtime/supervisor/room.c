#include "room.h"

#include <string.h>

#include "protocol.h"

/*
 * Of a queue of which so many jobs are with the executor, and so many of all that share its concurrency. Where jobs end
 * within milliseconds there may be twice as many, in two batches: while one is settled the other runs.
 */
static int32_t room_for(const struct queue *queue, int32_t concurrency, int32_t running, int32_t shared) {
  if (!queue_waits(queue))
    return INT32_MAX;
  int32_t most = queue_is_brief(queue) && concurrency <= INT32_MAX / 2 ? 2 * concurrency : concurrency;
  int32_t room = most - shared < concurrency ? most - shared : concurrency;
  if (queue->concurrency > 0)
    room = queue->concurrency - running;
  return room > 0 ? room : 0;
}

void room_find(struct hold *const *holds, struct queue *const *queues, uint32_t count, int32_t concurrency,
               int32_t *room) {
  int32_t shared = 0;
  memset(room, 0, count * sizeof *room);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    hold_count_running(holds[lane], room, count);
  for (uint32_t i = 0; i < count; i++)
    shared += queue_waits(queues[i]) && queues[i]->concurrency == 0 ? room[i] : 0;
  for (uint32_t i = 0; i < count; i++)
    room[i] = room_for(queues[i], concurrency, room[i], shared);
}
