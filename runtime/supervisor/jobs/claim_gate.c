#include "claim_gate.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* The second for an answer is measured in parts. After this process or the machine has stood still, only one part is
 * over, and the answer is read before the next part is over. */
enum { PART_MS = 250, PARTS = 4 };

struct claim_gate {
  bool (*open)(struct hold *hold);
  struct hold *inside;   /* the hold whose claim is under way; NULL: none */
  struct hold **waiting; /* the wait queue, oldest first */
  int count;
  int shut;         /* number of holds that have shut the gate */
  int ignored;      /* number of holds whose writes the database ignores */
  uv_timer_t timer; /* runs while a hold waits */
  int parts;        /* number of parts that are over since the timer started */
};

struct claim_gate *claim_gate_new(uv_loop_t *loop, bool (*open)(struct hold *hold)) {
  struct claim_gate *gate = memory_new(sizeof *gate);
  gate->open = open;
  uv_timer_init(loop, &gate->timer);
  gate->timer.data = gate;
  return gate;
}

static void free_gate(uv_handle_t *timer) {
  struct claim_gate *gate = timer->data;
  free(gate->waiting);
  free(gate);
}

void claim_gate_free(struct claim_gate *gate) {
  uv_close((uv_handle_t *)&gate->timer, free_gate);
}

static void open_for_next(struct claim_gate *gate);

static void on_timer(uv_timer_t *timer) {
  struct claim_gate *gate = timer->data;
  if (++gate->parts == PARTS)
    open_for_next(gate);
  else
    uv_timer_start(timer, on_timer, PART_MS, 0);
}

static void start_timer(struct claim_gate *gate) {
  gate->parts = 0;
  uv_timer_start(&gate->timer, on_timer, PART_MS, 0);
}

static void stop_waiting(struct claim_gate *gate, const struct hold *hold) {
  int kept = 0;
  for (int i = 0; i < gate->count; i++)
    if (gate->waiting[i] != hold)
      gate->waiting[kept++] = gate->waiting[i];
  gate->count = kept;
}

static void open_for_next(struct claim_gate *gate) {
  gate->inside = NULL;
  uv_timer_stop(&gate->timer);
  while (gate->count > 0 && !gate->inside) {
    struct hold *next = gate->waiting[0];
    stop_waiting(gate, next);
    gate->open(next);
  }
  if (gate->count > 0)
    start_timer(gate);
}

bool claim_gate_enter(struct claim_gate *gate, struct hold *hold) {
  stop_waiting(gate, hold);
  if (!gate->inside || gate->inside == hold) {
    gate->inside = hold;
    return true;
  }
  gate->waiting = memory_resize(gate->waiting, (size_t)(gate->count + 1) * sizeof(struct hold *));
  gate->waiting[gate->count++] = hold;
  if (!uv_is_active((uv_handle_t *)&gate->timer))
    start_timer(gate);
  return false;
}

void claim_gate_leave(struct claim_gate *gate, struct hold *hold) {
  if (gate->inside == hold)
    open_for_next(gate);
}

void claim_gate_withdraw(struct claim_gate *gate, struct hold *hold) {
  stop_waiting(gate, hold);
  claim_gate_leave(gate, hold);
}

void claim_gate_shut(struct claim_gate *gate) {
  gate->shut++;
}

void claim_gate_unshut(struct claim_gate *gate) {
  gate->shut--;
}

bool claim_gate_is_shut(const struct claim_gate *gate) {
  return gate->shut > 0;
}

bool claim_gate_add_ignored(struct claim_gate *gate) {
  return gate->ignored++ == 0;
}

void claim_gate_remove_ignored(struct claim_gate *gate) {
  gate->ignored--;
}

bool claim_gate_is_waiting(const struct claim_gate *gate, const struct hold *hold) {
  for (int i = 0; i < gate->count; i++)
    if (gate->waiting[i] == hold)
      return true;
  return false;
}
