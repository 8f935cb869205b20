#include "descriptors.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>

/* An executor needs its socket, its shared page, the pipes of its output and two connections. The spare ones are for
 * executors that start or are replaced, and for connections in the making. */
enum { OF_EXECUTOR = 6, SPARE = 5, OF_FIRST = 4 };

/* Descriptors of this worker are below this number: it counts those that are open while it has few. */
enum { LOOK_AT_MOST = 256 };

int descriptors_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX)
    return INT_MAX;
  return (int)limit.rlim_cur;
}

static int count_open(void) {
  int open = 0, limit = descriptors_limit();
  for (int fd = 0; fd < limit && fd < LOOK_AT_MOST; fd++)
    open += fcntl(fd, F_GETFD) >= 0;
  return open;
}

static void raise_limit(rlim_t wanted) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
    return;
  limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int descriptors_reserve(int executors) {
  int open = count_open() - OF_FIRST; /* the first executor is running */
  raise_limit((rlim_t)open + SPARE + (rlim_t)executors * 2 * OF_EXECUTOR);
  int fit = (descriptors_limit() - open - SPARE) / OF_EXECUTOR;
  if (fit < 1)
    return 1;
  return fit < executors ? fit : executors;
}
