#ifndef PGQ_WAKEUP_H
#define PGQ_WAKEUP_H

#include <stdbool.h>
#include <uv.h>

#include "claim.h"
#include "options.h"
#include "queue.h"
#include "sweep.h"

/*
 * The wake-up logic decides when the worker looks for jobs while one of its holds has nothing to do:
 *
 *     lingering ──► raising ──► confirming ──► asleep
 *        ▲              a claim brought jobs    ▲ │
 *        ├──────────────────────────────────────┼─┤
 *        └───────────────── answering ──────────┘ │
 *                              ▲                  │
 *                              └──────────────────┘
 *
 * lingering   jobs were found a short time ago: the worker looks again every few milliseconds, for 50 ms
 * raising     the doorbell's flags go up: from now on an enqueue rings
 * confirming  transactions that enqueued before may still commit: the worker looks until there are none, and sweeps
 * asleep      a sweep has found nothing: the worker looks when the doorbell rings, when the next job falls due, or when
 *             the polling interval is over; it remains asleep while it claims only because it has room again
 *
 * answering   as asleep: the flags are up; but a claim has brought jobs, the first ones for a while, and the worker has
 *             so many peers (peers.h) that an enqueue would ring even if this worker lowered its flags
 *
 * Without a doorbell (behind a pooler that shares sessions, or while the control connection is down) the worker sweeps
 * and sleeps, and new jobs are found at the next poll.
 */
struct wakeup;
struct doorbell;

struct wakeup_events {
  /* A sleeping hold should claim; see hold_wake(). Returns false if no hold sleeps, or none may claim. */
  bool (*wake)(void *owner, bool sweep);
  /* Returns whether no hold has jobs, and all that can claim sleep. */
  bool (*all_idle)(void *owner);
  /* With --drain: no job is due any more. */
  void (*drained)(void *owner);
};

/* wakeup_new(loop, options, queues, sweep, events, owner): everything passed must outlive the wakeup. It writes the
 * number of the last ring into `sweep`. */
struct wakeup *wakeup_new(uv_loop_t *loop, const struct options *options, const struct queue_list *queues,
                          struct sweep *sweep, const struct wakeup_events *events, void *owner);

/* wakeup_set_doorbell(wakeup, doorbell): the doorbell whose flags are raised and lowered from now on; NULL: none. */
void wakeup_set_doorbell(struct wakeup *wakeup, struct doorbell *doorbell);

/* wakeup_found(wakeup): a claim brought jobs. wakeup_more(wakeup): there may be jobs for another hold. */
void wakeup_found(struct wakeup *wakeup);
void wakeup_more(struct wakeup *wakeup);

/* wakeup_rescheduled(wakeup): a hold has written that jobs run again: the next hold that sleeps is to sweep, which
 * tells when. */
void wakeup_rescheduled(struct wakeup *wakeup);

/* wakeup_slept(wakeup, idle): a hold has nothing to do. */
void wakeup_slept(struct wakeup *wakeup, const struct idle_info *idle);

/* wakeup_raised(wakeup, clear): the flags are up; `clear`: no transaction that enqueued before is still open. */
void wakeup_raised(struct wakeup *wakeup, bool clear);

/* wakeup_set_shared(wakeup, shared): whether other workers hear the same rings, so that not all look at once. */
void wakeup_set_shared(struct wakeup *wakeup, bool shared);

/* wakeup_rung(wakeup): the doorbell rang: there are jobs, for which this worker looks at once. */
void wakeup_rung(struct wakeup *wakeup);

/* wakeup_steered(wakeup): an operator has paused or resumed queues. */
void wakeup_steered(struct wakeup *wakeup);
/* wakeup_rung_by(wakeup, ring, wait_ms): the doorbell rang, and the ring has that number. The worker looks in
 * `wait_ms`, unless wakeup_answered() is called before. It looks at once if the last ring for which it waited had no
 * answer: then most other workers are busy. */
void wakeup_rung_by(struct wakeup *wakeup, int64_t ring, int64_t wait_ms);

/* wakeup_answered(wakeup, ring): a peer has looked for jobs since that ring, and none is left. */
void wakeup_answered(struct wakeup *wakeup, int64_t ring);

/* wakeup_stop(wakeup): no hold is woken any more. */
void wakeup_stop(struct wakeup *wakeup);

/* wakeup_free(wakeup): NULL is allowed. */
void wakeup_free(struct wakeup *wakeup);

#endif
