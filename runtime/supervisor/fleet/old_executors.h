#ifndef PGQ_OLD_EXECUTORS_H
#define PGQ_OLD_EXECUTORS_H

#include <stdbool.h>
#include <stdint.h>

#include "slot_list.h"

/* Executors that still run jobs with an older version of the script after a reload. They are logged after ten seconds,
 * and then each minute, until their jobs have ended. A zeroed object has seen none. */
struct old_executors {
  bool seen;
  int64_t since_ms; /* if seen: when the first of them was seen */
  int64_t log_ms;   /* if seen: when they are logged next */
};

/* old_executors_count(slots): how many there are. */
int old_executors_count(const struct slot_list *slots);

/* old_executors_look(old, slots): to be called every second. Returns whether the first one has come, or the last one
 * has ended. */
bool old_executors_look(struct old_executors *old, const struct slot_list *slots);

#endif
