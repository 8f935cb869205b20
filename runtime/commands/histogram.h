#ifndef PGQ_HISTOGRAM_H
#define PGQ_HISTOGRAM_H

#include <stdint.h>

/*
 * histogram_quantile(buckets, fraction): the milliseconds below which `fraction` (0 to 1) of the times are, rounded up:
 * estimated within their bucket as if the times were spread evenly. `buckets` is a bigint[] as Postgres writes it: the
 * first element counts times of less than a millisecond, and element n those of less than 2^(n-1) that no earlier one
 * counts. Returns -1 if there are none, or `buckets` is NULL.
 */
int64_t histogram_quantile(const char *buckets, double fraction);

#endif
