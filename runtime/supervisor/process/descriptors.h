#ifndef PGQ_DESCRIPTORS_H
#define PGQ_DESCRIPTORS_H

/*
 * descriptors_reserve(executors): how many executors the limit on open files (RLIMIT_NOFILE) allows, at least 1 and at
 * most `executors`. Raises the soft limit first, as far as the hard limit allows, if it is too low. A worker that used
 * all descriptors could neither replace executors nor connect again.
 */
int descriptors_reserve(int executors);

/* descriptors_limit(): the limit now. */
int descriptors_limit(void);

#endif
