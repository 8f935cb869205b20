#include "database_clock.h"

#include <stdbool.h>
#include <time.h>

#include "clock.h"

/* Seconds from 1970 to 2000. */
#define POSTGRES_EPOCH_S 946684800

static bool is_known;
static int64_t offset_us; /* the database's time minus clock_us() */

void database_clock_set(int64_t us) {
  offset_us = us - clock_us();
  is_known = true;
}

int64_t database_clock_at(int64_t at_us) {
  struct timespec now;
  if (is_known)
    return at_us + offset_us;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t here_us = (int64_t)(now.tv_sec - POSTGRES_EPOCH_S) * 1000000 + now.tv_nsec / 1000;
  return here_us - (clock_us() - at_us);
}
