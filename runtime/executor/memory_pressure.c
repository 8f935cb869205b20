#include "memory_pressure.h"

#include <unistd.h>

#include "memory_limit.h"

enum { MEASURE_EVERY = 8 };

void memory_pressure_init(struct memory_pressure *pressure, uint64_t limit) {
  *pressure = (struct memory_pressure){.limit = limit, .statm = limit > 0 ? memory_use_open() : -1};
}

void memory_pressure_free(struct memory_pressure *pressure) {
  if (pressure->statm >= 0)
    close(pressure->statm);
}

bool memory_pressure_measure(struct memory_pressure *pressure) {
  struct memory_use use;
  pressure->high = memory_use_read(pressure->statm, &use) && memory_is_scarce(use.resident, pressure->limit);
  pressure->used = use.resident;
  return pressure->high;
}

bool memory_pressure_is_high(struct memory_pressure *pressure) {
  if (pressure->limit > 0 && pressure->asked++ % MEASURE_EVERY == 0)
    return memory_pressure_measure(pressure);
  return pressure->high;
}
