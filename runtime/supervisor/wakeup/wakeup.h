#ifndef PGQ_WAKEUP_H
#define PGQ_WAKEUP_H

#include <stdbool.h>
#include <uv.h>

#include "claim.h"
#include "options.h"
#include "queue.h"
#include "sweep.h"

/*
 * When the worker looks for jobs while one of its holds has nothing to do:
 *
 *     lingering ──► raising ──► watching ──► asleep
 *        ▲             a claim brought jobs     │
 *        └──────────────────────────────────────┘
 *
 * lingering  the last jobs were found a moment ago: it looks again every few ms, for 50 ms
 * raising    the flags of the doorbell go up: from now on whoever enqueues rings
 * watching   enqueues that began before that may still commit: it looks until there are none, and sweeps
 * asleep     a sweep has found nothing: until somebody rings, a job falls due, or the polling interval is over
 *
 * Without a doorbell (behind a pooler that pools transactions, or while the control connection is away) it sweeps and
 * sleeps, and jobs wait for the polling interval.
 */
struct wakeup;
struct doorbell;

struct wakeup_events {
  /* A sleeping hold is to claim; see hold_wake(). False: none sleeps, or none may. */
  bool (*wake)(void *owner, bool sweep);
  /* Whether all holds sleep. */
  bool (*all_asleep)(void *owner);
  /* With --drain: nothing is due any more. */
  void (*drained)(void *owner);
};

/* wakeup_new(loop, options, queues, sweep, events, owner): all of it must outlive the wakeup. */
struct wakeup *wakeup_new(uv_loop_t *loop, const struct options *options, const struct queue_list *queues,
                          const struct sweep *sweep, const struct wakeup_events *events, void *owner);

/* wakeup_set_doorbell(wakeup, doorbell): the doorbell whose flags are to be raised and lowered from now on; NULL: none.
 */
void wakeup_set_doorbell(struct wakeup *wakeup, struct doorbell *doorbell);

/* wakeup_found(wakeup): a claim brought jobs. wakeup_more(wakeup): and there may be more, for another hold. */
void wakeup_found(struct wakeup *wakeup);
void wakeup_more(struct wakeup *wakeup);

/* wakeup_slept(wakeup, look): a hold has nothing to do. */
void wakeup_slept(struct wakeup *wakeup, const struct idle_info *look);

/* wakeup_raised(wakeup, clear): the flags are up; `clear`: no enqueue is in flight that began before. */
void wakeup_raised(struct wakeup *wakeup, bool clear);

/* wakeup_rung(wakeup): somebody enqueued. */
void wakeup_rung(struct wakeup *wakeup);

/* wakeup_stop(wakeup): wakes nobody any more. */
void wakeup_stop(struct wakeup *wakeup);

/* wakeup_free(wakeup): NULL is allowed. */
void wakeup_free(struct wakeup *wakeup);

#endif
