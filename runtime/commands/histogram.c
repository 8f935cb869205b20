#include "histogram.h"

#include <stdlib.h>

void histogram_add(struct histogram *histogram, const char *buckets) {
  char *end = NULL;
  int i = 0;
  for (const char *next = buckets; next && *next && *next != '}' && i < HISTOGRAM_BUCKETS; next = end) {
    double count = (double)strtoll(next + 1, &end, 10); /* behind "{" or "," */
    histogram->counts[i++] += end > next + 1 ? count : 0;
  }
}

int64_t histogram_quantile(const struct histogram *histogram, double fraction) {
  const double *counts = histogram->counts;
  double sum = 0, below = 0;
  int i = 0, last = 0;
  for (int n = 0; n < HISTOGRAM_BUCKETS; n++) {
    sum += counts[n];
    last = counts[n] > 0 ? n : last;
  }
  if (sum <= 0)
    return -1;
  while (i < last && below + counts[i] < sum * fraction)
    below += counts[i++];
  double first = i == 0 ? 0 : (double)(INT64_C(1) << (i - 1)), past = (double)(INT64_C(1) << i);
  double share = counts[i] > 0 ? (sum * fraction - below) / counts[i] : 1;
  double ms = first + (past - first) * share;
  return (int64_t)ms + ((double)(int64_t)ms < ms);
}
