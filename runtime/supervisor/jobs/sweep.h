#ifndef PGQ_SWEEP_H
#define PGQ_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A sweep is a claim that starts from the beginning of its queues instead of their floors. It finds jobs below the
 * floors, but reads every dead row on its way. While a session somewhere keeps an old snapshot, this can take hundreds
 * of milliseconds, in which no other hold claims. Sweeps therefore get at most a fortieth of the worker's time. With a
 * zeroed struct, a sweep may begin. Times are clock_ms().
 */
struct sweep {
  int64_t began_ms;   /* begin of the last sweep */
  int64_t allowed_ms; /* earliest begin of the next sweep */
  int64_t denied_ms;  /* the wait after the last sweep_deny(); 0: a sweep was made since */
  double usual_ms;    /* duration of a claim that is no sweep: moving average */
  int64_t ring;       /* the last ring of the doorbell: a claim that is sent from now on sees its jobs; 0: none */
};

/* sweep_wait_ms(sweep, now_ms): the time until a sweep may begin; 0: it may begin now. */
int64_t sweep_wait_ms(const struct sweep *sweep, int64_t now_ms);

/* sweep_is_wanted(sweep, now_ms): for claims while jobs keep coming: whether the last sweep is long enough ago, and
 * another may begin. */
bool sweep_is_wanted(const struct sweep *sweep, int64_t now_ms);

/* sweep_begin(sweep, now_ms): a sweep of all queues begins. */
void sweep_begin(struct sweep *sweep, int64_t now_ms);

/* sweep_deny(sweep, now_ms): a sweep was not made, because another worker sweeps: it may begin after a wait, which
 * grows.
 */
void sweep_deny(struct sweep *sweep, int64_t now_ms);

/* sweep_saw(sweep, now_ms, took_ms, swept): a claim or STATEMENT_NEXT_DUE was answered after `took_ms`; `swept`: it
 * read its queues from the beginning. */
void sweep_saw(struct sweep *sweep, int64_t now_ms, int64_t took_ms, bool swept);

#endif
