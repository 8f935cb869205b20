#ifndef PGQ_PRESSURE_H
#define PGQ_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Whether the process has most of the memory that it may have: then no further task is to begin beside those that wait.
 * The supervisor sees the same, and replaces the executor.
 */
struct pressure {
  uint64_t most; /* bytes; 0: no limit */
  int fd;
  unsigned asked;
  bool high;
};

/* pressure_init(pressure, most): pressure_free() is to follow. */
void pressure_init(struct pressure *pressure, uint64_t most);
void pressure_free(struct pressure *pressure);

/* pressure_look(pressure): whether it is high now. pressure_is_high(pressure): the same, by what a look has told that
 * is a few calls old at most. */
bool pressure_look(struct pressure *pressure);
bool pressure_is_high(struct pressure *pressure);

#endif
