#include "token.h"

#include <sys/random.h>

#include "clock.h"

int64_t token_next(int count) {
  static int64_t next;
  if (next == 0) { /* the start is random, so that no two processes use the same numbers */
    if (getrandom(&next, sizeof next, 0) != sizeof next)
      next = clock_us() << 20;
    next = (next & INT64_C(0x3fffffffffffffff)) | 1;
  }
  int64_t token = next;
  next += count;
  return token;
}
