#ifndef PGQ_CLOCK_H
#define PGQ_CLOCK_H

#include <stdint.h>
#include <time.h>

/* clock_us(), clock_ms(): micro- and milliseconds on a monotonic clock with an arbitrary start: for measuring durations
 * and for deadlines in this process. */
static inline int64_t clock_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static inline int64_t clock_ms(void) {
  return clock_us() / 1000;
}

#endif
