#ifndef PGQ_SLOT_ACTIVITY_H
#define PGQ_SLOT_ACTIVITY_H

#include <stdbool.h>
#include <stdint.h>

#include "slot.h"

/* What the executor of a slot does now. The texts are valid until the loop's next turn. */
struct slot_activity {
  int pid;             /* 0: there is no process; then the rest is zero */
  int64_t busy_ms;     /* for how long a handler or a callback has run without a wait; 0: none runs */
  bool runs, has_job;  /* `runs`: `job` is the one whose handler runs now; otherwise the oldest of those that wait */
  int64_t job;         /* if has_job: its id */
  const char *queue;   /* the name of its queue; NULL: not known */
  int64_t job_ms;      /* for how long the job has run, or has been leased */
  int in_flight;       /* jobs that have begun and not ended */
  const char *version; /* of the script; "": not known */
};

/* slot_get_activity(slot, activity): fills it in. */
void slot_get_activity(const struct slot *slot, struct slot_activity *activity);

/* slot_count_jobs(slot, queue): how many jobs of the queue are with the executor. slot_count_holding(slot): how many of
 * its holds have jobs in an open transaction. */
int slot_count_jobs(const struct slot *slot, const struct queue *queue);
int slot_count_holding(const struct slot *slot);

/* slot_memory(slot): the bytes of memory that the executor has; 0: none, or not known. */
int64_t slot_memory(const struct slot *slot);

#endif
