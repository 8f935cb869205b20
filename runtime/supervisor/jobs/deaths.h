#ifndef PGQ_DEATHS_H
#define PGQ_DEATHS_H

#include <stdbool.h>

/*
 * The rule for a job in whose flight processes died. pgq_jobs.deaths counts how often an executor or a whole worker
 * died while the job was in flight, and it was not known which job had caused the death. Such a death costs the job no
 * attempt; the next handler that ends sets the count to 0.
 *
 *     deaths   how the job runs
 *     0        held
 *     1        leased before it runs, so that another death of its worker leaves evidence
 *     2        leased, in a group of at most 64 such jobs, with no other job in the executor
 *     3        the same, at most 8
 *     4        the same, alone: when the process dies once more, the job is the culprit and loses an attempt
 *
 * The job is due again after 0, 1, 2, 4 … seconds, so that other jobs run first: see count_death.sql and
 * end_dead_worker.sql, which apply the same rule.
 */
enum { DEATHS_LEASED = 1, DEATHS_IN_GROUP = 2, DEATHS_ALONE = 4 };

/* The most jobs of a group. */
enum { DEATHS_GROUP_MOST = 64 };

/* deaths_group_size(deaths): how many jobs with that count may run together; 0: they run beside all other jobs. */
int deaths_group_size(int deaths);

/* deaths_share_group(a, b): whether jobs with these counts, both at least DEATHS_IN_GROUP, may run together. */
bool deaths_share_group(int a, int b);

#endif
