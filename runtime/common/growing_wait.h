#ifndef PGQ_GROWING_WAIT_H
#define PGQ_GROWING_WAIT_H

#include <stdint.h>

/*
 * growing_wait_after(wait_ms, least_ms, most_ms): the wait to use after `wait_ms`, when the same thing has failed once
 * more: twice as long, at least `least_ms` and at most `most_ms`. A wait of 0 stands for "it has not failed yet".
 */
static inline int64_t growing_wait_after(int64_t wait_ms, int64_t least_ms, int64_t most_ms) {
  if (wait_ms < least_ms)
    return least_ms;
  return wait_ms < most_ms / 2 ? 2 * wait_ms : most_ms;
}

#endif
