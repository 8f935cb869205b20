#ifndef PGQ_SWEEP_H
#define PGQ_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A sweep is a claim that starts from the beginning of its queues instead of their floors. It finds what lies below
 * them, and pays for every dead row there is: as long as a session somewhere keeps an old snapshot, that may be
 * hundreds of milliseconds, in which no other hold claims. So sweeps get at most a fortieth of the worker's time.
 * Zeroed: a sweep may be made. Times are clock_ms().
 */
struct sweep {
  int64_t began_ms;   /* the last one */
  int64_t allowed_ms; /* the next one may begin then */
  double usual_ms;    /* what a claim takes that is none: moving average */
};

/* sweep_wait_ms(sweep, now_ms): how long until one may begin; 0: it may now. */
int64_t sweep_wait_ms(const struct sweep *sweep, int64_t now_ms);

/* sweep_is_wanted(sweep, now_ms): under load, where claims bring jobs: the last one is long enough ago. */
bool sweep_is_wanted(const struct sweep *sweep, int64_t now_ms);

/* sweep_begin(sweep, now_ms): all queues are to be swept by their next claims. */
void sweep_begin(struct sweep *sweep, int64_t now_ms);

/* sweep_saw(sweep, now_ms, took_ms, swept): a claim (or another look at the queues) was answered, and was a sweep or
 * not. */
void sweep_saw(struct sweep *sweep, int64_t now_ms, int64_t took_ms, bool swept);

#endif
