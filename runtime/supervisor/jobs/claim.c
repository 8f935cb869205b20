#include "claim.h"

#include <stdlib.h>
#include <string.h>

#include "claim_fleet.h"
#include "clock.h"
#include "deaths.h"
#include "memory.h"

/* A claim brings about this much data; larger data is fetched job by job. So is data beyond a megabyte: while it is on
 * its way to the executor, the hold limit does not count. */
enum { CLAIM_BYTES = 8 << 20, CLAIM_BYTES_LEAST = 16 << 10, INLINE_BYTES_MOST = 1 << 20 };

/* A claim takes at most this many jobs. */
enum { CLAIM_MOST = 1000 };

/* A claim ahead asks only queues from which a claim may take at least this many jobs: each of them takes a dozen
 * milliseconds at most. */
enum { AHEAD_LEAST = 4 };

void claim_free(struct claim *claim) {
  free(claim->queues);
  free(claim->capacity);
  free(claim->asked);
  free(claim->asked_index);
  free(claim->most);
  free(claim->swept);
  free(claim->ends);
  *claim = (struct claim){0};
}

void claim_serve(struct claim *claim, struct queue *const *queues, uint32_t count) {
  claim->queues = memory_resize(claim->queues, count * sizeof *claim->queues);
  if (count > 0)
    memcpy(claim->queues, queues, count * sizeof *claim->queues);
  claim->capacity = memory_resize(claim->capacity, (count + 1) * sizeof *claim->capacity);
  for (uint32_t i = 0; i < count; i++)
    claim->capacity[i] = INT32_MAX;
  claim->queue_count = count;
  claim->stale = true;
}

/* Whether several jobs of the queue fit into a claim. */
static bool is_quick(const struct queue *queue) {
  return queue->batch > 1;
}

/* Whether the queue's jobs are so short that they may wait until another batch has run. */
static bool is_quick_enough(const struct queue *queue, enum claim_kind kind) {
  return kind == CLAIM_ANY ? is_quick(queue) : queue->batch >= AHEAD_LEAST;
}

/* Whether no claim may ask the queue: it is paused or backs off, the executor has no capacity for its jobs, or too
 * many of its outcomes cannot be written. */
static bool is_shut(const struct claim *claim, uint32_t index, int64_t now_ms) {
  const struct queue *queue = claim->queues[index];
  return claim->capacity[index] <= 0 || queue->ignored >= QUEUE_IGNORED_MOST || queue_is_shut(queue, now_ms);
}

/* Whether this claim asks only queues of the other kind. */
static bool is_left_out(const struct claim *claim, uint32_t index) {
  enum claim_only kind = claim->queues[index]->transactional ? CLAIM_ONLY_TRANSACTIONAL : CLAIM_ONLY_PLAIN;
  return claim->only != CLAIM_ONLY_NONE && claim->only != kind;
}

/* If plain and transactional queues have jobs, claims ask one kind and the other alternately. */
static void choose_kind(struct claim *claim, int64_t now_ms) {
  bool has_jobs[2] = {false, false};
  for (uint32_t i = 0; i < claim->queue_count; i++)
    if (claim->queues[i]->busy && !is_shut(claim, i, now_ms))
      has_jobs[claim->queues[i]->transactional] = true;
  claim->only = CLAIM_ONLY_NONE;
  if (has_jobs[0] && has_jobs[1])
    claim->only = claim->last_only = claim->last_only == CLAIM_ONLY_PLAIN ? CLAIM_ONLY_TRANSACTIONAL : CLAIM_ONLY_PLAIN;
}

/* Asks for no more jobs than the claim can bring with their data. Earlier jobs show how large the data is. */
static void ask(struct claim *claim, uint32_t index, int32_t most) {
  double bring = CLAIM_BYTES / (2 * claim->queues[index]->data_bytes + 1);
  if (bring < most)
    most = bring < 1 ? 1 : (int32_t)bring;
  if (most > claim->capacity[index])
    most = claim->capacity[index];
  claim->asked[claim->asked_count] = claim->queues[index];
  claim->asked_index[claim->asked_count] = index;
  claim->most[claim->asked_count++] = most;
}

static void ask_quick(struct claim *claim, enum claim_kind kind, int64_t now_ms) {
  int32_t busy = 0;
  for (uint32_t i = 0; i < claim->queue_count; i++)
    busy += claim->queues[i]->busy && is_quick_enough(claim->queues[i], kind);
  for (uint32_t i = 0; i < claim->queue_count; i++) {
    uint32_t index = (claim->first_queue + i) % claim->queue_count;
    struct queue *queue = claim->queues[index];
    if (!is_quick_enough(queue, kind) || is_left_out(claim, index) || is_shut(claim, index, now_ms))
      continue;
    int32_t share = queue->batch / (busy + (queue->busy ? 0 : 1));
    ask(claim, index, share > 0 ? share : 1);
  }
}

/* Asks each queue for one job; with `only_slow`, only slow queues. Without `all`, which is so if quick queues have
 * jobs, it asks one queue, each time the next. */
static void ask_slow(struct claim *claim, bool all, bool only_slow, int64_t now_ms) {
  uint32_t turn = all ? claim->first_queue : claim->first_slow_queue;
  for (uint32_t i = 0; i < claim->queue_count; i++) {
    uint32_t index = (turn + i) % claim->queue_count;
    struct queue *queue = claim->queues[index];
    if ((only_slow && is_quick(queue)) || is_left_out(claim, index) || is_shut(claim, index, now_ms))
      continue;
    ask(claim, index, 1);
    claim->first_slow_queue = index + 1;
    if (!all)
      return;
  }
}

/* Asks every queue for a whole group of jobs that must run alone. */
static void ask_groups(struct claim *claim, int32_t most, int64_t now_ms) {
  for (uint32_t i = 0; i < claim->queue_count; i++) {
    uint32_t index = (claim->first_queue + i) % claim->queue_count;
    if (!is_shut(claim, index, now_ms))
      ask(claim, index, most);
  }
  claim->complete = true;
  claim->most_jobs = most;
}

static bool has_asked_all(const struct claim *claim, int64_t now_ms) {
  uint32_t shut = 0;
  for (uint32_t i = 0; i < claim->queue_count; i++)
    shut += is_shut(claim, i, now_ms);
  return claim->only == CLAIM_ONLY_NONE && claim->asked_count + shut == claim->queue_count;
}

/* Returns the number of jobs in total. The job beyond CLAIM_MOST is for the slow queue. */
static int32_t asked_jobs(const struct claim *claim) {
  int32_t jobs = 0;
  for (uint32_t i = 0; i < claim->asked_count && jobs < CLAIM_MOST; i++)
    jobs += claim->most[i];
  return jobs < CLAIM_MOST ? jobs : CLAIM_MOST + 1;
}

bool claim_choose(struct claim *claim, enum claim_kind kind, int32_t most) {
  int64_t now_ms = clock_ms();
  size_t count = claim->queue_count;
  bool quick = false;
  claim->asked = memory_resize(claim->asked, count * sizeof *claim->asked);
  claim->asked_index = memory_resize(claim->asked_index, count * sizeof *claim->asked_index);
  claim->most = memory_resize(claim->most, count * sizeof *claim->most);
  claim->swept = memory_resize(claim->swept, count * sizeof *claim->swept);
  claim->ends = memory_resize(claim->ends, count * sizeof *claim->ends);
  claim->asked_count = 0;
  claim->stale = false;
  if (claim->deaths == CLAIM_DEATHS_MANY) {
    claim->only = CLAIM_ONLY_NONE;
    ask_groups(claim, most, now_ms);
    return claim->asked_count > 0;
  }
  choose_kind(claim, now_ms);
  if (most > 1)
    ask_quick(claim, kind, now_ms);
  for (uint32_t i = 0; i < claim->asked_count; i++)
    quick = quick || claim->asked[i]->busy;
  if (kind == CLAIM_ANY)
    ask_slow(claim, !quick, most > 1, now_ms);
  claim->complete = has_asked_all(claim, now_ms);
  claim->most_jobs = quick || claim->asked_count == 1 ? asked_jobs(claim) : 1;
  if (claim->most_jobs > most)
    claim->most_jobs = most;
  return claim->asked_count > 0;
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
    queue->sweep_next = queue->sweep_next && !(claim->swept[i] && !passed_over) && !(claim->denied && row > first);
    if (row > first)
      take_jobs(claim, i, result, first, row, full);
    if (!full && !passed_over)
      claim_fleet_end(claim, i, row == first);
    ask_for_region(queue, frontier);
  }
  claim->full = claim->full || claim->again;
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
      bool shut = is_shut(claim, (uint32_t)position - 1, now_ms);
      /* A claim that leaves out jobs which must run alone is followed by one that does not. */
      look->due_shut = look->due_shut || shut || claim->deaths == CLAIM_DEATHS_FEW;
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
