#include "pressure.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "protocol.h"

/* A look costs microseconds, which is what a job may take. */
enum { LOOK_EVERY = 8 };

void pressure_init(struct pressure *pressure, uint64_t most) {
  *pressure = (struct pressure){.most = most, .fd = -1};
  if (most > 0)
    pressure->fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
}

void pressure_free(struct pressure *pressure) {
  if (pressure->fd >= 0)
    close(pressure->fd);
}

bool pressure_look(struct pressure *pressure) {
  char text[128] = "";
  unsigned long pages = 0;
  if (pressure->fd < 0 || pread(pressure->fd, text, sizeof text - 1, 0) <= 0 || sscanf(text, "%*u %lu", &pages) != 1)
    return pressure->high = false;
  return pressure->high = pages * (uint64_t)sysconf(_SC_PAGESIZE) > MEMORY_ENOUGH(pressure->most);
}

bool pressure_is_high(struct pressure *pressure) {
  return pressure->most > 0 && (pressure->asked++ % LOOK_EVERY != 0 ? pressure->high : pressure_look(pressure));
}
