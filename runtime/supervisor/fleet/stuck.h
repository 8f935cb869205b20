#ifndef PGQ_STUCK_H
#define PGQ_STUCK_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "slot_activity.h"
#include "slot_list.h"

/* Looks every second for handlers that run for long without a wait, and whether all executors have such a handler, so
 * that no further job runs. Both are logged, and again after 1, 5 and 30 minutes. Looks also for executors that a
 * reload has replaced and that still run jobs: see old_executors.h. */
struct stuck;

/* From when on a handler counts as stuck; from when on executors that run handlers count as all busy. */
enum { STUCK_HANDLER_MS = 30000, STUCK_ALL_MS = 10000 };

/* stuck_is_handler(activity): whether the executor's handler has run for STUCK_HANDLER_MS without a wait. */
bool stuck_is_handler(const struct slot_activity *activity);

/* stuck_all_busy_ms(slots): for how long all executors have been busy, each with one handler that has not waited; 0:
 * one of them is free, or waits, or there is none. */
int64_t stuck_all_busy_ms(const struct slot_list *slots);

/* stuck_new(loop, slots, changed, owner): begins to look. changed(owner) is called when a handler begins or ceases to
 * be stuck, when all executors begin or cease to be busy, and when there are old executors or none any more. */
struct stuck *stuck_new(uv_loop_t *loop, const struct slot_list *slots, void (*changed)(void *owner), void *owner);

/* stuck_free(stuck): frees the object in a later turn of the loop. NULL is allowed. */
void stuck_free(struct stuck *stuck);

#endif
