#ifndef PGQ_LEASE_H
#define PGQ_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "batch.h"

/*
 * The jobs of one executor that outlived their hold: their row says that they are leased, and the token in it is the
 * only key to it. They leave the list when their outcome goes to be settled.
 */
struct lease {
  struct job job;        /* job.outcome is OUTCOME_NONE while it runs */
  uint32_t batch, index; /* by which the executor knows it */
  int64_t since_ms;      /* clock_ms() when it was leased */
  bool lost;             /* the row is somebody else's: the outcome will be dropped */
  int64_t lost_ms;       /* clock_ms() when that was found */
  bool missed;           /* it was not there once: it is lost, or its handler has completed the job */
  bool cancelled;        /* because somebody cancelled the job */
};

/* Zeroed: none. */
struct lease_list {
  struct lease *items;
  int count;
};

void lease_list_free(struct lease_list *list);

/* lease_list_add_from(list, batch): all jobs of the batch whose outcome is OUTCOME_LEASE; the batch keeps them too. */
void lease_list_add_from(struct lease_list *list, const struct batch *batch);

/* lease_list_end(list, outcome): what the executor said. The job, or NULL when it is not here or has ended before. */
struct job *lease_list_end(struct lease_list *list, const struct job_outcome *outcome);

/* lease_list_child_died(list, death): as hold_child_died() says. */
void lease_list_child_died(struct lease_list *list, const struct child_death *death);

/* lease_list_give_back(list, batch): the jobs of that batch have never been begun: they go back. */
void lease_list_give_back(struct lease_list *list, uint32_t batch);

/* lease_list_lose(list, id): the lease of the job is lost; it is returned, if it was here and runs. Else NULL. */
struct lease *lease_list_lose(struct lease_list *list, int64_t id);

/* lease_list_miss(list, id): the lease of the job was not there. True when that may be because its transactional
 * handler has just completed it: so it is the first time. */
bool lease_list_miss(struct lease_list *list, int64_t id);

/* lease_list_drop(list, id): forgets the job, which the executor has never been given. */
void lease_list_drop(struct lease_list *list, int64_t id);

/* lease_list_has(list, batch): a job of that batch still runs. */
bool lease_list_has(const struct lease_list *list, uint32_t batch);

/* lease_list_busy(list): how many still run. lease_list_ended(list): how many have an outcome to settle. */
int lease_list_busy(const struct lease_list *list);
int lease_list_ended(const struct lease_list *list);

/* lease_list_collect(list, batch): moves those that have ended to the batch; of lost ones only a log line remains. */
void lease_list_collect(struct lease_list *list, struct batch *batch);

/* lease_list_find(list, id): the running job of that id, or NULL. */
struct job *lease_list_find(struct lease_list *list, int64_t id);

/* lease_token(count): the first of `count` tokens that nobody has had. */
int64_t lease_token(int count);

#endif
