#include "claim_fleet.h"

#include <stdlib.h>

#include "memory.h"

/* If a claim brings fewer jobs than this, they take long. Then no sweep is locked: the lock would last as long as they.
 */
enum { JOBS_LEAST = 8 };

/* The begin of each queue, where no claim ends. */
static const struct place BEGIN = {FLOOR_US_LEAST, FLOOR_ID_LEAST};

static struct place floor_of(const struct queue *queue) {
  return (struct place){queue->floor_us, queue->floor_id};
}

static void set_floor(struct queue *queue, struct place floor) {
  queue->floor_us = floor.us;
  queue->floor_id = floor.id;
}

static bool ends_with_region(const struct claim *claim, uint32_t i) {
  return claim->ends[i].us != BEGIN.us;
}

/* ── the request ── */

bool claim_fleet_locks_sweep(const struct claim *claim) {
  bool shared = false;
  for (uint32_t i = 0; i < claim->asked_count; i++) {
    const struct queue *queue = claim->asked[i];
    if (!queue->sweep_next || queue->region.inside)
      return false;
    shared = shared || (queue->region.shared && queue_fits(queue) >= JOBS_LEAST);
  }
  return shared && claim->deaths != CLAIM_DEATHS_MANY;
}

struct place claim_fleet_start(struct claim *claim, uint32_t i, bool may_sweep) {
  struct queue *queue = claim->asked[i];
  queue->sweep_next = queue->sweep_next || (queue->region.sweep && may_sweep);
  queue->region.sweep = false;
  claim->swept[i] = queue->sweep_next || claim->deaths == CLAIM_DEATHS_MANY;
  claim->ends[i] = BEGIN;
  if (claim->swept[i])
    return claim->locks_sweep ? floor_of(queue) : BEGIN;
  struct place floor = region_enter(&queue->region, floor_of(queue), claim->sent_ms);
  set_floor(queue, floor);
  if (region_has(&queue->region, floor))
    claim->ends[i] = queue->region.end;
  return floor;
}

enum statement claim_fleet_parameters(const struct claim *claim, struct parameters *parameters) {
  uint32_t count = claim->asked_count;
  bool needed = claim->locks_sweep;
  for (uint32_t i = 0; i < count; i++)
    needed = needed || ends_with_region(claim, i);
  if (!needed)
    return STATEMENT_CLAIM;
  int64_t *until = memory_new(2 * count * sizeof *until), *until_id = until + count;
  bool *without_id = memory_new(count * sizeof *without_id);
  for (uint32_t i = 0; i < count; i++) {
    without_id[i] = !ends_with_region(claim, i) || !claim->asked[i]->region.of_ids;
    until[i] = ends_with_region(claim, i) && without_id[i] ? claim->ends[i].us - 1 : INT64_MAX;
    until_id[i] = claim->ends[i].id;
  }
  parameters_add_time_array(parameters, until, (int)count);
  parameters_add_i64_array(parameters, until_id, without_id, (int)count);
  parameters_add_text(parameters, claim->locks_sweep ? claim->queues[0]->name : "");
  free(without_id);
  free(until);
  return STATEMENT_CLAIM_IN_FLEET;
}

/* ── the answer ── */

void claim_sweep_lock_parameters(const struct claim *claim, struct parameters *parameters) {
  parameters_add_text(parameters, claim->queues[0]->name);
}

void claim_take_sweep_lock(struct claim *claim, bool locked) {
  if (locked)
    return;
  for (uint32_t i = 0; i < claim->asked_count; i++)
    claim->swept[i] = false;
  claim->sweeps_all = claim->sweeps_any = false;
  claim->denied = true;
}

void claim_fleet_end(struct claim *claim, uint32_t i, bool empty) {
  struct queue *queue = claim->asked[i];
  struct place floor = floor_of(queue);
  if (claim->swept[i]) {
    floor = region_swept(&queue->region, floor);
  } else if (ends_with_region(claim, i)) {
    floor = region_end(&queue->region, floor, claim->ends[i], empty);
    claim->again = queue->busy = true;
  } else {
    region_leave(&queue->region);
  }
  set_floor(queue, floor);
}
