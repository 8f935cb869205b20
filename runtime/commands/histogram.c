#include "histogram.h"

#include <stdlib.h>

enum { MOST_BUCKETS = 62 };

int64_t histogram_quantile(const char *buckets, double fraction) {
  double counts[MOST_BUCKETS], sum = 0, below = 0;
  int count = 0;
  char *end = NULL;
  for (const char *next = buckets; next && *next && *next != '}' && count < MOST_BUCKETS; next = end) {
    counts[count] = strtod(next + 1, &end); /* behind "{" or "," */
    sum += counts[count++];
  }
  if (sum <= 0)
    return -1;
  int i = 0;
  while (i + 1 < count && below + counts[i] < sum * fraction)
    below += counts[i++];
  double first = i == 0 ? 0 : (double)(INT64_C(1) << (i - 1)), past = (double)(INT64_C(1) << i);
  double share = counts[i] > 0 ? (sum * fraction - below) / counts[i] : 1;
  double ms = first + (past - first) * share;
  return (int64_t)ms + ((double)(int64_t)ms < ms);
}
