#ifndef PGQ_MEMORY_PRESSURE_H
#define PGQ_MEMORY_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Measures whether this executor has used most of its memory (memory_is_scarce()). If it has, no further job begins
 * beside waiting jobs. The supervisor measures the same, and replaces the executor.
 */
struct memory_pressure {
  uint64_t limit; /* bytes; 0: none */
  uint64_t used;  /* bytes, when measured last */
  int statm;
  unsigned asked;
  bool high;
};

/* memory_pressure_init(pressure, limit): `limit` in bytes, 0 for none. memory_pressure_free() closes what it opens. */
void memory_pressure_init(struct memory_pressure *pressure, uint64_t limit);
void memory_pressure_free(struct memory_pressure *pressure);

/* memory_pressure_measure(pressure): measures, which takes microseconds, and returns whether the pressure is high. */
bool memory_pressure_measure(struct memory_pressure *pressure);

/* memory_pressure_is_high(pressure): the same, but measures at every eighth call only, since it is called for every
 * job. */
bool memory_pressure_is_high(struct memory_pressure *pressure);

#endif
