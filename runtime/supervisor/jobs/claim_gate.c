#include "claim_gate.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* A claim's time for its answer is looked at in parts: after a moment in which this process, or the whole machine,
 * stood still, one part is over at once, and the answer is there before the next. */
enum { PART_MS = 250, PARTS = 4 };

struct claim_gate {
  bool (*wake)(struct hold *hold);
  struct hold *holder;
  struct hold **waiting; /* in the order they came */
  int count;
  uv_timer_t timer; /* while somebody waits */
  int parts;        /* that are over since then */
};

struct claim_gate *claim_gate_new(uv_loop_t *loop, bool (*wake)(struct hold *hold)) {
  struct claim_gate *gate = memory_new(sizeof *gate);
  gate->wake = wake;
  uv_timer_init(loop, &gate->timer);
  gate->timer.data = gate;
  return gate;
}

static void free_claim_gate(uv_handle_t *timer) {
  struct claim_gate *gate = timer->data;
  free(gate->waiting);
  free(gate);
}

void claim_gate_free(struct claim_gate *gate) {
  uv_close((uv_handle_t *)&gate->timer, free_claim_gate);
}

static void pass_on(struct claim_gate *gate);

static void on_timer(uv_timer_t *timer) {
  struct claim_gate *gate = timer->data;
  if (++gate->parts == PARTS)
    pass_on(gate);
  else
    uv_timer_start(timer, on_timer, PART_MS, 0);
}

static void start_timer(struct claim_gate *gate) {
  gate->parts = 0;
  uv_timer_start(&gate->timer, on_timer, PART_MS, 0);
}

static void forget(struct claim_gate *gate, const struct hold *hold) {
  int kept = 0;
  for (int i = 0; i < gate->count; i++)
    if (gate->waiting[i] != hold)
      gate->waiting[kept++] = gate->waiting[i];
  gate->count = kept;
}

bool claim_gate_enter(struct claim_gate *gate, struct hold *hold) {
  forget(gate, hold);
  if (!gate->holder || gate->holder == hold) {
    gate->holder = hold;
    return true;
  }
  gate->waiting = memory_resize(gate->waiting, (size_t)(gate->count + 1) * sizeof(struct hold *));
  gate->waiting[gate->count++] = hold;
  if (!uv_is_active((uv_handle_t *)&gate->timer))
    start_timer(gate);
  return false;
}

static void pass_on(struct claim_gate *gate) {
  gate->holder = NULL;
  uv_timer_stop(&gate->timer);
  while (gate->count > 0 && !gate->holder) {
    struct hold *next = gate->waiting[0];
    forget(gate, next);
    gate->wake(next);
  }
  if (gate->count > 0)
    start_timer(gate);
}

void claim_gate_leave(struct claim_gate *gate, struct hold *hold) {
  if (gate->holder == hold)
    pass_on(gate);
}

void claim_gate_withdraw(struct claim_gate *gate, struct hold *hold) {
  forget(gate, hold);
  claim_gate_leave(gate, hold);
}
