#include "room.h"

#include <stdio.h>
#include <unistd.h>

#include <sys/resource.h>

bool room_is_short(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_DATA, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return false;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL)
    return false;
  unsigned long pages = 0;
  bool known = fscanf(file, "%*u %*u %*u %*u %*u %lu", &pages) == 1; /* what may be written */
  fclose(file);
  return known && pages * (rlim_t)sysconf(_SC_PAGESIZE) > limit.rlim_cur / 4 * 3;
}
