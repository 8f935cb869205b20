#ifndef PGQ_SWEEP_H
#define PGQ_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A sweep is a claim that starts from the beginning of its queues instead of their floors. It finds jobs below the
 * floors, but reads every dead row on its way. While a session somewhere keeps an old snapshot, this can take hundreds
 * of milliseconds, in which no other hold claims. Sweeps therefore get at most a fortieth of the worker's time. If the
 * struct is zeroed, a sweep may be made. Times are clock_ms().
 */
struct sweep {
  int64_t began_ms;   /* the last one */
  int64_t allowed_ms; /* the next one may begin then */
  double usual_ms;    /* duration of a claim that is no sweep: moving average */
};

/* sweep_wait_ms(sweep, now_ms): the time until a sweep may begin; 0: it may begin now. */
int64_t sweep_wait_ms(const struct sweep *sweep, int64_t now_ms);

/* sweep_is_wanted(sweep, now_ms): for claims under load: the last sweep is long enough ago, and another may begin. */
bool sweep_is_wanted(const struct sweep *sweep, int64_t now_ms);

/* sweep_begin(sweep, now_ms): a sweep of all queues begins. */
void sweep_begin(struct sweep *sweep, int64_t now_ms);

/* sweep_saw(sweep, now_ms, took_ms, swept): a claim, or the question what falls due next, was answered after `took_ms`.
 */
void sweep_saw(struct sweep *sweep, int64_t now_ms, int64_t took_ms, bool swept);

#endif
