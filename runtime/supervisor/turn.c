#include "turn.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* A claim's time for its answer is looked at in parts: after a moment in which this process, or the whole machine,
 * stood still, one part is over at once, and the answer is there before the next. */
enum { PART_MS = 250, PARTS = 4 };

struct turn {
  bool (*wake)(struct hold *hold);
  struct hold *holder;
  struct hold **waiting; /* in the order they came */
  int count;
  uv_timer_t timer; /* while somebody waits */
  int parts;        /* that are over since then */
};

struct turn *turn_new(uv_loop_t *loop, bool (*wake)(struct hold *hold)) {
  struct turn *turn = memory_new(sizeof *turn);
  turn->wake = wake;
  uv_timer_init(loop, &turn->timer);
  turn->timer.data = turn;
  return turn;
}

static void free_turn(uv_handle_t *timer) {
  struct turn *turn = timer->data;
  free(turn->waiting);
  free(turn);
}

void turn_free(struct turn *turn) {
  uv_close((uv_handle_t *)&turn->timer, free_turn);
}

static void pass_on(struct turn *turn);

static void on_timer(uv_timer_t *timer) {
  struct turn *turn = timer->data;
  if (++turn->parts == PARTS)
    pass_on(turn);
  else
    uv_timer_start(timer, on_timer, PART_MS, 0);
}

static void start_timer(struct turn *turn) {
  turn->parts = 0;
  uv_timer_start(&turn->timer, on_timer, PART_MS, 0);
}

static void forget(struct turn *turn, const struct hold *hold) {
  int kept = 0;
  for (int i = 0; i < turn->count; i++)
    if (turn->waiting[i] != hold)
      turn->waiting[kept++] = turn->waiting[i];
  turn->count = kept;
}

bool turn_take(struct turn *turn, struct hold *hold) {
  forget(turn, hold);
  if (!turn->holder || turn->holder == hold) {
    turn->holder = hold;
    return true;
  }
  turn->waiting = memory_resize(turn->waiting, (size_t)(turn->count + 1) * sizeof(struct hold *));
  turn->waiting[turn->count++] = hold;
  if (!uv_is_active((uv_handle_t *)&turn->timer))
    start_timer(turn);
  return false;
}

static void pass_on(struct turn *turn) {
  turn->holder = NULL;
  uv_timer_stop(&turn->timer);
  while (turn->count > 0 && !turn->holder) {
    struct hold *next = turn->waiting[0];
    forget(turn, next);
    turn->wake(next);
  }
  if (turn->count > 0)
    start_timer(turn);
}

void turn_end(struct turn *turn, struct hold *hold) {
  if (turn->holder == hold)
    pass_on(turn);
}

void turn_leave(struct turn *turn, struct hold *hold) {
  forget(turn, hold);
  turn_end(turn, hold);
}
