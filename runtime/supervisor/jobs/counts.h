#ifndef PGQ_COUNTS_H
#define PGQ_COUNTS_H

#include <stdint.h>

/* What the worker has done since it was started, beside what the tallies of its queues count. */
struct counts {
  int64_t claims;            /* claims that were answered, also with no job */
  int64_t claimed_jobs;      /* the jobs that they brought */
  int64_t settles;           /* transactions committed that wrote the outcomes of jobs */
  int64_t leases_lost;       /* jobs whose lease was taken or ended while they ran, and that were not cancelled */
  int64_t executor_starts;   /* executors that were started */
  int64_t executor_restarts; /* those that took the place of one that had died */
};

#endif
