#ifndef PGQ_DURATION_H
#define PGQ_DURATION_H

#include <stddef.h>
#include <stdint.h>

/* Durations as people write them, in the form of Go's time.ParseDuration and Duration.String: 1h30m, 250ms, 1m0s.
 * In C a duration is an int64_t of milliseconds. */

/* The longest duration, that of Go (2^63 nanoseconds): 2562047h47m16.854s. */
#define DURATION_MAX_MS INT64_C(9223372036854)

/* Bytes that duration_format() may write, the final NUL included. */
#define DURATION_TEXT_SIZE 32

/* Reads a duration: an optional sign, then one or more numbers, each with an optional fraction and with a unit of ns,
 * us (or µs), ms, s, m, h; or a bare 0. `text` has `length` bytes and needs no final NUL. Stores the duration in
 * milliseconds in `*result_ms`, rounded to the nearest, halves up, and returns 0.
 *
 * Otherwise returns -1, leaves `*result_ms` as it is, and points `*problem` to a static phrase that continues the
 * sentence "the duration …", such as "is empty" or "has an unknown unit". A negative duration is refused, as is one
 * above DURATION_MAX_MS. */
int duration_parse(const char *text, size_t length, int64_t *result_ms, const char **problem)
    __attribute__((warn_unused_result));

/* The same, except that a bare number is one of seconds: 10, 0.5. For options and for numbers that come from Lua. */
int duration_parse_option(const char *text, size_t length, int64_t *result_ms, const char **problem)
    __attribute__((warn_unused_result));

/* Writes `ms` milliseconds into `buffer` as Go prints a duration: 0s, 250ms, 1.5s, 1m0s, 1h30m0s; negative ones with a
 * minus sign. duration_parse() reads every non-negative one back to the same number. */
void duration_format(int64_t ms, char buffer[DURATION_TEXT_SIZE]);

#endif
