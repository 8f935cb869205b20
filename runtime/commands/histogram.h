#ifndef PGQ_HISTOGRAM_H
#define PGQ_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 62 };

/* A histogram of times, as pgq_stats has them: the first bucket counts times of less than a millisecond, and bucket n
 * (from 1) those of less than 2^(n-1) milliseconds that no earlier one counts. A zeroed struct is empty. */
struct histogram {
  double counts[HISTOGRAM_BUCKETS];
};

/* histogram_add(histogram, buckets): adds the counts of a bigint[], as Postgres writes it, or NULL. */
void histogram_add(struct histogram *histogram, const char *buckets);

/*
 * histogram_quantile(histogram, fraction): the milliseconds below which `fraction` (0 to 1) of the times are, rounded
 * up: estimated within their bucket as if the times were spread evenly. Returns -1 for an empty histogram.
 */
int64_t histogram_quantile(const struct histogram *histogram, double fraction);

#endif
