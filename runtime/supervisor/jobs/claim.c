#include "claim.h"

#include <stdlib.h>
#include <string.h>

#include "claim_fleet.h"
#include "clock.h"
#include "deaths.h"
#include "memory.h"

/* The least data of a job that a claim brings, see CLAIM_BYTES, and the most: while larger data is on its way to the
 * executor, the hold limit does not count. */
enum { CLAIM_BYTES_LEAST = 16 << 10, INLINE_BYTES_MOST = 1 << 20 };

/*
 * A look asks at most LOOK_MOST queues. The next one of the worker follows after LOOK_EVERY_MS, or later if it asked
 * many: a look takes one to three microseconds of the server for each queue, and may take a twentieth of its time.
 */
enum { LOOK_MOST = 1000, LOOK_EVERY_MS = 20, LOOK_QUEUES_PER_MS = 16 };

void claim_free(struct claim *claim) {
  free(claim->queues);
  free(claim->transactional);
  free(claim->capacity);
  free(claim->asked);
  free(claim->asked_index);
  free(claim->most);
  free(claim->swept);
  free(claim->ends);
  free(claim->looked);
  free(claim->looked_swept);
  *claim = (struct claim){0};
}

void claim_serve(struct claim *claim, struct queue *const *queues, uint32_t count) {
  claim->queues = memory_resize(claim->queues, count * sizeof *claim->queues);
  if (count > 0)
    memcpy(claim->queues, queues, count * sizeof *claim->queues);
  claim->transactional = memory_resize(claim->transactional, count + 1);
  claim->capacity = memory_resize(claim->capacity, (count + 1) * sizeof *claim->capacity);
  for (uint32_t i = 0; i < count; i++)
    claim->capacity[i] = INT32_MAX;
  for (uint32_t i = 0; i < count; i++)
    claim->transactional[i] = queues[i]->transactional;
  claim->queue_count = count;
  /* Workers that share many queues begin at different ones, so that they rarely meet. */
  claim->first_queue = count > CLAIM_ASKED_ALWAYS ? (uint32_t)(clock_us() % count) : 0;
  claim->stale = true;
}

void claim_parameters(struct claim *claim, bool may_sweep, struct parameters *parameters) {
  uint32_t count = claim->asked_count;
  const char **names = memory_new(count * sizeof *names);
  int64_t *places = memory_new(2 * count * sizeof *places), *ids = places + count;
  int32_t jobs = 0;
  claim->sent_ms = clock_ms();
  claim->sweeps_all = true;
  claim->sweeps_any = false;
  claim->locks_sweep = claim_fleet_locks_sweep(claim);
  claim->denied = false;
  for (uint32_t i = 0; i < count; i++) {
    names[i] = claim->asked[i]->name;
    struct place start = claim_fleet_start(claim, i, may_sweep);
    jobs += claim->most[i] < claim->most_jobs - jobs ? claim->most[i] : claim->most_jobs - jobs;
    claim->asked[i]->turn = claim->turn;
    claim->sweeps_all = claim->sweeps_all && claim->swept[i];
    claim->sweeps_any = claim->sweeps_any || claim->swept[i];
    places[i] = start.us;
    ids[i] = start.id;
  }
  int32_t bytes = CLAIM_BYTES / jobs > CLAIM_BYTES_LEAST ? CLAIM_BYTES / jobs : CLAIM_BYTES_LEAST;
  bytes = bytes < INLINE_BYTES_MOST ? bytes : INLINE_BYTES_MOST;
  parameters_add_text_array(parameters, names, (int)count);
  parameters_add_i32_array(parameters, claim->most, (int)count);
  parameters_add_i32(parameters, bytes);
  parameters_add_i64(parameters, claim->most_jobs);
  parameters_add_time_array(parameters, places, (int)count);
  parameters_add_i64_array(parameters, ids, NULL, (int)count);
  parameters_add_i32(parameters, claim->deaths == CLAIM_DEATHS_MANY ? DEATHS_IN_GROUP : INT16_MIN);
  parameters_add_i32(parameters, claim->deaths == CLAIM_DEATHS_FEW ? DEATHS_IN_GROUP - 1 : INT16_MAX);
  free(places);
  free(names);
}

static int64_t data_of(const PGresult *result, int row, int end) {
  int64_t bytes = 0;
  for (; row < end; row++)
    bytes += PQgetisnull(result, row, CLAIM_DATA) ? result_i32(result, row, CLAIM_DATA_LENGTH)
                                                  : PQgetlength(result, row, CLAIM_DATA);
  return bytes;
}

/* A queue gave these rows: moves its floor. */
static void take_jobs(struct claim *claim, uint32_t i, const PGresult *result, int first, int end, bool full) {
  struct queue *queue = claim->asked[i];
  claim->first_queue = claim->asked_index[i] + 1;
  queue_saw_data(queue, end - first, data_of(result, first, end));
  struct region_claim seen = {
      .first = {result_i64(result, first, CLAIM_RUN_AFTER), result_i64(result, first, CLAIM_ID)},
      .last = {result_i64(result, end - 1, CLAIM_RUN_AFTER), result_i64(result, end - 1, CLAIM_ID)},
      .count = end - first,
      .full = full,
      .swept = claim->swept[i],
  };
  if (region_saw(&queue->region, &seen))
    queue_set_floor(queue, seen.last.us, seen.last.id, full);
}

static void ask_for_region(struct queue *queue, const struct frontier *frontier) {
  struct place floor = {queue->floor_us, queue->floor_id};
  if (frontier->ask && region_wants(&queue->region, floor, queue_fits(queue), clock_ms()))
    frontier->ask(frontier->owner, queue);
}

void claim_take(struct claim *claim, const PGresult *result, const struct frontier *frontier) {
  int rows = PQntuples(result), row = 0;
  claim->again = false;
  claim->full = rows > 0 && rows >= claim->most_jobs && claim->deaths != CLAIM_DEATHS_MANY;
  if (claim->deaths == CLAIM_DEATHS_MANY)
    return;
  for (uint32_t i = 0; i < claim->asked_count; i++) {
    struct queue *queue = claim->asked[i];
    int first = row;
    while (row < rows && claim_position(result, row) == i)
      row++;
    bool full = row - first >= claim->most[i] || (row > first && row == rows && claim->full);
    claim->full = claim->full || full;
    bool passed_over = row == first && row == rows && claim->full; /* the claim was full before it came to this queue */
    queue->busy = row > first || (queue->busy && passed_over);
    if (passed_over)
      queue->turn = 0;
    queue->sweep_next = queue->sweep_next && !(claim->swept[i] && !passed_over) && !(claim->denied && row > first);
    if (row > first)
      take_jobs(claim, i, result, first, row, full);
    if (!full && !passed_over)
      claim_fleet_end(claim, i, row == first);
    if (!claim->crowded)
      ask_for_region(queue, frontier);
  }
  claim->full = claim->full || claim->again;
}

/* Whether the queue is to be looked at: the claim does not ask it, and may ask it. */
static bool is_looked_at(const struct claim *claim, uint32_t index, int64_t now_ms) {
  return !claim_knows_jobs(claim->queues[index]) && !claim_is_shut(claim, index, now_ms);
}

/* Chooses the queues that were looked at the longest time ago. Chooses none if the last look of the worker, by
 * whichever hold, was a short time ago. */
static void choose_looked(struct claim *claim, int64_t now_ms) {
  int64_t last_ms = 0, least_ms = INT64_MAX;
  uint32_t first = 0, idle = 0;
  for (uint32_t i = 0; i < claim->queue_count; i++) {
    int64_t looked_ms = claim->queues[i]->looked_ms;
    last_ms = looked_ms > last_ms ? looked_ms : last_ms;
    if (!is_looked_at(claim, i, now_ms))
      continue;
    idle++;
    if (looked_ms < least_ms) {
      least_ms = looked_ms;
      first = i;
    }
  }
  int64_t wait_ms = (idle < LOOK_MOST ? idle : LOOK_MOST) / LOOK_QUEUES_PER_MS;
  if (now_ms - last_ms < (wait_ms > LOOK_EVERY_MS ? wait_ms : LOOK_EVERY_MS))
    return;
  claim->looked = memory_resize(claim->looked, LOOK_MOST * sizeof(struct queue *));
  claim->looked_swept = memory_resize(claim->looked_swept, LOOK_MOST * sizeof *claim->looked_swept);
  for (uint32_t i = 0; i < claim->queue_count && claim->looked_count < LOOK_MOST; i++) {
    uint32_t index = (first + i) % claim->queue_count;
    if (is_looked_at(claim, index, now_ms))
      claim->looked[claim->looked_count++] = claim->queues[index];
  }
}

bool claim_look(struct claim *claim, struct parameters *parameters) {
  int64_t now_ms = clock_ms();
  claim->looked_count = 0;
  if (claim->looks)
    choose_looked(claim, now_ms);
  uint32_t count = claim->looked_count;
  if (count == 0)
    return false;
  const char **names = memory_new(count * sizeof *names);
  int64_t *places = memory_new(2 * count * sizeof *places), *ids = places + count;
  for (uint32_t i = 0; i < count; i++) {
    struct queue *queue = claim->looked[i];
    bool sweep = claim->looked_swept[i] = queue->sweep_next;
    queue->looked_ms = now_ms;
    names[i] = queue->name;
    places[i] = sweep ? FLOOR_US_LEAST : queue->floor_us;
    ids[i] = sweep ? FLOOR_ID_LEAST : queue->floor_id;
    claim->sweeps_any = claim->sweeps_any || sweep;
  }
  parameters_add_text_array(parameters, names, (int)count);
  parameters_add_time_array(parameters, places, (int)count);
  parameters_add_i64_array(parameters, ids, NULL, (int)count);
  free(places);
  free(names);
  return true;
}

void claim_take_look(struct claim *claim, const PGresult *result) {
  int rows = PQntuples(result);
  for (int row = 0; row < rows; row++)
    claim->looked[result_i64(result, row, 0) - 1]->busy = true;
  for (uint32_t i = 0; i < claim->looked_count; i++)
    if (!claim->looked[i]->busy && claim->looked_swept[i])
      claim->looked[i]->sweep_next = false;
  claim->full = claim->full || rows > 0;
}

void claim_sweep(const struct claim *claim) {
  for (uint32_t i = 0; i < claim->queue_count; i++)
    if (!claim->queues[i]->region.inside)
      claim->queues[i]->sweep_next = true;
}

void claim_forget_floors(const struct claim *claim) {
  for (uint32_t i = 0; i < claim->queue_count; i++)
    queue_forget_floor(claim->queues[i]);
}

void idle_info_parameters(const struct claim *claim, struct parameters *parameters) {
  const char **names = memory_new(claim->queue_count * sizeof *names);
  int64_t now_ms = clock_ms();
  for (uint32_t i = 0; i < claim->queue_count; i++)
    names[i] = queue_is_paused(claim->queues[i], now_ms) ? NULL : claim->queues[i]->name;
  parameters_add_text_array(parameters, names, (int)claim->queue_count);
  free(names);
}

void idle_info_take(const struct claim *claim, const PGresult *result, struct idle_info *look) {
  int64_t now_ms = clock_ms();
  for (int row = 0; row < PQntuples(result); row++) {
    int64_t position = result_i64(result, row, NEXT_DUE_QUEUE);
    if (position > claim->queue_count) /* the executor was replaced meanwhile, and has fewer queues */
      break;
    if (*PQgetvalue(result, row, NEXT_DUE_NOW)) {
      bool shut = claim_is_shut(claim, (uint32_t)position - 1, now_ms);
      /* A claim that leaves out jobs which must run alone, or all others, is followed by one that does not. */
      look->due_shut = look->due_shut || shut || claim->deaths != CLAIM_DEATHS_ANY;
      look->due_locked = look->due_locked || !shut;
    }
    if (PQgetisnull(result, row, NEXT_DUE_WAIT_MS))
      continue;
    int64_t wait_ms = result_i64(result, row, NEXT_DUE_WAIT_MS);
    if (wait_ms < 0) /* it fell due after the transaction began */
      wait_ms = 0;
    if (look->wait_ms < 0 || wait_ms < look->wait_ms)
      look->wait_ms = wait_ms;
  }
}
