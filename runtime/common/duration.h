#ifndef PGQ_DURATION_H
#define PGQ_DURATION_H

#include <stddef.h>
#include <stdint.h>

/* Durations as people write them, in the form of Go's time.ParseDuration and Duration.String: 1h30m, 250ms, 1m0s.
 * In C a duration is an int64_t of milliseconds. spec/support/durations.txt lists the cases that pgq_enqueue() in SQL
 * and pgq.testing must read in the same way. */

/* The longest duration, that of Go (2^63 - 1 nanoseconds): 2562047h47m16.854s. */
#define DURATION_MAX_MS INT64_C(9223372036854)

/* Bytes that duration_format() may write, the final NUL included. */
#define DURATION_TEXT_SIZE 32

/* duration_parse(text, length, result_ms, problem): reads a duration: an optional sign, then one or more numbers, each
 * with an optional fraction and a unit (ns, us or µs, ms, s, m, h); or a bare 0. `text` has `length` bytes and needs no
 * final NUL. Returns 0 and stores the milliseconds in *result_ms, rounded to the nearest, halves up.
 *
 * Returns -1 if the text is no duration, or a negative one, or one above DURATION_MAX_MS. *result_ms is then unchanged,
 * and *problem points to a static phrase that continues the sentence "the duration …", such as "is empty". */
int duration_parse(const char *text, size_t length, int64_t *result_ms, const char **problem)
    __attribute__((warn_unused_result));

/* duration_parse_option(text, length, result_ms, problem): the same, but a number without a unit is in seconds: 10,
 * 0.5. For values from Lua. */
int duration_parse_option(const char *text, size_t length, int64_t *result_ms, const char **problem)
    __attribute__((warn_unused_result));

/* duration_parse_days(text, length, result_ms, problem): the same as duration_parse_option(), with another unit: 7d are
 * seven days of 24 hours. For the options of the program; Go, SQL and Lua have no such unit. */
int duration_parse_days(const char *text, size_t length, int64_t *result_ms, const char **problem)
    __attribute__((warn_unused_result));

/* duration_format(ms, buffer): writes a duration as Go does: 0s, 250ms, 1.5s, 1m0s, 1h30m0s; a negative one with a
 * minus sign. duration_parse() reads the text of a non-negative one back to the same number. */
void duration_format(int64_t ms, char buffer[DURATION_TEXT_SIZE]);

#endif
