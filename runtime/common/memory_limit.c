#include "memory_limit.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int memory_use_open(void) {
  return open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
}

bool memory_use_read(int fd, struct memory_use *use) {
  char text[128] = "";
  unsigned long resident, data;
  *use = (struct memory_use){0};
  if (fd < 0 || pread(fd, text, sizeof text - 1, 0) <= 0 ||
      sscanf(text, "%*u %lu %*u %*u %*u %lu", &resident, &data) != 2)
    return false;
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  *use = (struct memory_use){.resident = resident * page, .data = data * page};
  return true;
}

uint64_t memory_of_process(void) {
  struct memory_use use = {0};
  int fd = memory_use_open();
  if (fd < 0)
    return 0;
  memory_use_read(fd, &use);
  close(fd);
  return use.resident;
}
