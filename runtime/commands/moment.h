#ifndef PGQ_MOMENT_H
#define PGQ_MOMENT_H

#include <stdint.h>

/* Moments as Postgres writes a timestamptz with DateStyle ISO, in any time zone, such as "2026-11-30 17:20:10.5+01". */

/* Bytes of any text that these functions write, the final NUL included. */
enum { MOMENT_SIZE = 48 };

/*
 * moment_iso(out, text): writes the moment in ISO 8601, in UTC, such as 2026-11-30T16:20:10.500000Z. Infinity, and
 * years that ISO 8601 does not have, stay as they are.
 */
void moment_iso(char out[MOMENT_SIZE], const char *text);

/* moment_between_ms(from, to): the milliseconds from one moment to the other; INT64_MAX or INT64_MIN if one of them is
 * infinity, or has a year that ISO 8601 does not have. */
int64_t moment_between_ms(const char *from, const char *to);

/* moment_relative(out, text, now): writes "3m ago", "in 2h", "now", or "never" for infinity. */
void moment_relative(char out[MOMENT_SIZE], const char *text, const char *now);

/* moment_span(out, ms): writes a duration for a reader, with at most two units: 12ms, 1.5s, 45s, 3m5s, 2h, 4d3h. A
 * negative one becomes 0ms, and INT64_MAX "ever". */
void moment_span(char out[MOMENT_SIZE], int64_t ms);

#endif
