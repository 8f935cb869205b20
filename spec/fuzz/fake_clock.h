#ifndef PGQ_FUZZ_FAKE_CLOCK_H
#define PGQ_FUZZ_FAKE_CLOCK_H

#include <stdint.h>

/*
 * The time of a fuzz target: clock_us(), and that of libuv's timers. Only fake_clock_advance() moves it, so
 * that an input always does the same, and a time limit of a day takes no day.
 */

/* fake_clock_reset(): sets the time that the clock has at the beginning of every input. */
void fake_clock_reset(void);

void fake_clock_advance(int64_t us);

#endif
