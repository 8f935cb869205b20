#ifndef PGQ_LOOKOUT_H
#define PGQ_LOOKOUT_H

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
struct lookout;

struct lookout_events {
  /* A sleeping hold is to claim; see hold_wake(). False: none sleeps, or none may. */
  bool (*wake)(void *owner, bool sweep);
  /* The flags are to go up, or down. Up: lookout_raised() follows, unless there is no doorbell; then it returns false.
   */
  bool (*flag)(void *owner, bool up);
  /* The flags are up: is an enqueue in flight? lookout_raised() follows. */
  void (*probe)(void *owner);
  /* Whether all holds sleep. */
  bool (*all_asleep)(void *owner);
  /* With --drain: nothing is due any more. */
  void (*drained)(void *owner);
};

/* lookout_new(loop, options, queues, sweep, events, owner): all of it must outlive the lookout. */
struct lookout *lookout_new(uv_loop_t *loop, const struct options *options, const struct queue_list *queues,
                            const struct sweep *sweep, const struct lookout_events *events, void *owner);

/* lookout_found(lookout): a claim brought jobs. lookout_more(lookout): and there may be more, for another hold. */
void lookout_found(struct lookout *lookout);
void lookout_more(struct lookout *lookout);

/* lookout_slept(lookout, look): a hold has nothing to do. */
void lookout_slept(struct lookout *lookout, const struct hold_look *look);

/* lookout_raised(lookout, clear): the flags are up; `clear`: no enqueue is in flight that began before. */
void lookout_raised(struct lookout *lookout, bool clear);

/* lookout_rung(lookout): somebody enqueued. */
void lookout_rung(struct lookout *lookout);

/* lookout_stop(lookout): wakes nobody any more. */
void lookout_stop(struct lookout *lookout);

/* lookout_free(lookout): NULL is allowed. */
void lookout_free(struct lookout *lookout);

#endif
