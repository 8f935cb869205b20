#include "nearest.h"

#include <string.h>

enum { MOST_BYTES = 200 };

static int least(int a, int b, int c) {
  int ab = a < b ? a : b;
  return ab < c ? ab : c;
}

/* The edit distance of two words of at most MOST_BYTES, row by row. Two neighbours in each other's place are one step.
 */
static int distance(const char *a, int a_length, const char *b, int b_length) {
  int rows[3][MOST_BYTES + 1]; /* the row before the last one, the last one, and this one, in turns */
  for (int j = 0; j <= b_length; j++)
    rows[0][j] = j;
  for (int i = 1; i <= a_length; i++) {
    int *row = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
    row[0] = i;
    for (int j = 1; j <= b_length; j++) {
      row[j] = least(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = least(row[j], row[j], before[j - 2] + 1);
    }
  }
  return rows[a_length % 3][b_length];
}

const char *nearest_word(const char *word, const char *const *candidates, int count) {
  const char *nearest = NULL;
  int best = MOST_BYTES + 1, length = (int)strnlen(word, MOST_BYTES + 1);
  for (int i = 0; i < count && length <= MOST_BYTES; i++) {
    int other = (int)strnlen(candidates[i], MOST_BYTES + 1);
    if (other > MOST_BYTES)
      continue;
    int steps = distance(word, length, candidates[i], other);
    if (steps < best && steps * 3 <= (length > other ? length : other)) {
      best = steps;
      nearest = candidates[i];
    }
  }
  return nearest;
}
