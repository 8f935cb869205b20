#include "cancellations.h"

#include <stdlib.h>

#include "clock.h"
#include "memory.h"

/* The least time between two looks at the rows. */
enum { LOOK_EVERY_MS = 100 };

struct cancellations {
  struct slot_list *slots;
  bool (*look)(void *owner, const struct parameters *parameters);
  void *owner;
  uv_timer_t timer; /* runs until the next look, while `count` is not 0 */
  int64_t *ids;     /* jobs to look at, each once; they are leased, which limits their number */
  int count;
  int64_t looked_ms;
};

static void on_timer(uv_timer_t *timer) {
  struct cancellations *cancellations = timer->data;
  struct parameters parameters = {0};
  parameters_add_i64_array(&parameters, cancellations->ids, NULL, cancellations->count);
  cancellations->looked_ms = clock_ms();
  cancellations->look(cancellations->owner,
                      &parameters); /* without a session, the leases are checked in the next one */
  cancellations->count = 0;
  parameters_free(&parameters);
}

struct cancellations *cancellations_new(uv_loop_t *loop, struct slot_list *slots,
                                        bool (*look)(void *owner, const struct parameters *parameters), void *owner) {
  struct cancellations *cancellations = memory_new(sizeof *cancellations);
  *cancellations = (struct cancellations){.slots = slots, .look = look, .owner = owner};
  cancellations->looked_ms = clock_ms() - LOOK_EVERY_MS;
  uv_timer_init(loop, &cancellations->timer);
  cancellations->timer.data = cancellations;
  return cancellations;
}

static void free_cancellations(uv_handle_t *timer) {
  struct cancellations *cancellations = timer->data;
  free(cancellations->ids);
  free(cancellations);
}

void cancellations_free(struct cancellations *cancellations) {
  if (cancellations)
    uv_close((uv_handle_t *)&cancellations->timer, free_cancellations);
}

void cancellations_notified(struct cancellations *cancellations, int64_t id) {
  for (int i = 0; i < cancellations->count; i++)
    if (cancellations->ids[i] == id)
      return;
  if (!slot_list_has_lease(cancellations->slots, id))
    return;
  size_t size = (size_t)(cancellations->count + 1) * sizeof *cancellations->ids;
  cancellations->ids = memory_resize(cancellations->ids, size);
  cancellations->ids[cancellations->count++] = id;
  if (uv_is_active((uv_handle_t *)&cancellations->timer))
    return;
  int64_t wait_ms = cancellations->looked_ms + LOOK_EVERY_MS - clock_ms();
  uv_timer_start(&cancellations->timer, on_timer, wait_ms > 0 ? (uint64_t)wait_ms : 0, 0);
}

void cancellations_take(struct cancellations *cancellations, const PGresult *result) {
  for (int row = 0; row < PQntuples(result); row++)
    slot_list_cancel(cancellations->slots, result_i64(result, row, 0));
}
