#include "memory_scarce.h"

#include <unistd.h>

#include <sys/resource.h>

#include "memory_limit.h"

bool memory_is_scarce_here(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_DATA, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return false;
  struct memory_use use;
  int statm = memory_use_open();
  bool known = memory_use_read(statm, &use);
  if (statm >= 0)
    close(statm);
  return known && memory_is_scarce(use.data, limit.rlim_cur);
}
