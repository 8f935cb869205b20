#include "claim.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "memory.h"

/* A claim brings along about this much data; more is fetched job by job. */
enum { CLAIM_BYTES = 8 << 20, CLAIM_BYTES_LEAST = 16 << 10 };

void claim_free(struct claim *claim) {
  free(claim->queues);
  free(claim->asked);
  free(claim->asked_index);
  *claim = (struct claim){0};
}

void claim_serve(struct claim *claim, struct queue *const *queues, uint32_t count) {
  claim->queues = memory_resize(claim->queues, count * sizeof *claim->queues);
  if (count > 0)
    memcpy(claim->queues, queues, count * sizeof *claim->queues);
  claim->queue_count = count;
  claim->stale = true;
}

bool claim_choose(struct claim *claim) {
  int64_t now_ms = clock_ms();
  claim->asked = memory_resize(claim->asked, claim->queue_count * sizeof *claim->asked);
  claim->asked_index = memory_resize(claim->asked_index, claim->queue_count * sizeof *claim->asked_index);
  claim->asked_count = 0;
  claim->stale = false;
  for (uint32_t i = 0; i < claim->queue_count; i++) {
    uint32_t index = (claim->turn + i) % claim->queue_count;
    if (queue_is_paused(claim->queues[index], now_ms))
      continue;
    claim->asked[claim->asked_count] = claim->queues[index];
    claim->asked_index[claim->asked_count++] = index;
  }
  if (claim->queue_count > 0)
    claim->turn = (claim->turn + 1) % claim->queue_count;
  return claim->asked_count > 0;
}

void claim_parameters(const struct claim *claim, int32_t most, struct parameters *parameters) {
  const char **names = memory_new(claim->asked_count * sizeof *names);
  int32_t *each = memory_new(claim->asked_count * sizeof *each);
  int32_t jobs = 0;
  for (uint32_t i = 0; i < claim->asked_count; i++) {
    names[i] = claim->asked[i]->name;
    each[i] = claim->asked[i]->batch;
    jobs = jobs + each[i] < most ? jobs + each[i] : most;
  }
  int32_t bytes = CLAIM_BYTES / jobs > CLAIM_BYTES_LEAST ? CLAIM_BYTES / jobs : CLAIM_BYTES_LEAST;
  parameters_add_text_array(parameters, names, (int)claim->asked_count);
  parameters_add_i32_array(parameters, each, (int)claim->asked_count);
  parameters_add_i32(parameters, bytes);
  parameters_add_i64(parameters, most);
  free(each);
  free(names);
}

void look_parameters(const struct claim *claim, struct parameters *parameters) {
  const char **names = memory_new(claim->queue_count * sizeof *names);
  for (uint32_t i = 0; i < claim->queue_count; i++)
    names[i] = claim->queues[i]->name;
  parameters_add_text_array(parameters, names, (int)claim->queue_count);
  free(names);
}

struct hold_look look_take(const struct claim *claim, const PGresult *result) {
  struct hold_look look = {.wait_ms = -1};
  int64_t now_ms = clock_ms();
  for (int row = 0; row < PQntuples(result); row++) {
    int64_t position = result_i64(result, row, LOOK_QUEUE);
    if (position > claim->queue_count) /* the executor has been replaced meanwhile, and has fewer queues */
      break;
    if (*PQgetvalue(result, row, LOOK_DUE)) {
      bool paused = queue_is_paused(claim->queues[position - 1], now_ms);
      look.due_paused = look.due_paused || paused;
      look.due_locked = look.due_locked || !paused;
    }
    if (PQgetisnull(result, row, LOOK_WAIT_MS))
      continue;
    int64_t wait_ms = result_i64(result, row, LOOK_WAIT_MS);
    if (look.wait_ms < 0 || wait_ms < look.wait_ms)
      look.wait_ms = wait_ms;
  }
  return look;
}
