#ifndef PGQ_LEASE_H
#define PGQ_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "batch.h"

/*
 * The leased jobs of one hold. They run on after the transaction that claimed them has ended; only a statement with the
 * token in their row may write it. A job leaves the list when its outcome is about to be settled.
 */
struct lease {
  struct job job;        /* job.outcome is OUTCOME_NONE while it runs */
  uint32_t batch, index; /* the executor's numbers for the job */
  int64_t since_ms;      /* clock_ms() when it was leased */
  bool lost;             /* the row has another token or was deleted: the outcome will be dropped */
  int64_t lost_ms;       /* clock_ms() when the loss was noticed */
  bool missed;    /* the last check did not find the row: the lease is lost, or the handler has completed the job */
  bool cancelled; /* the lease is lost because the job was cancelled */
};

/* A zeroed list is empty. */
struct lease_list {
  struct lease *items;
  int count;
};

void lease_list_free(struct lease_list *list);

/* lease_list_add_from(list, batch): adds all jobs of the batch whose outcome is OUTCOME_LEASE. The batch keeps them,
 * until their leases are written. */
void lease_list_add_from(struct lease_list *list, const struct batch *batch);

/* lease_list_end(list, outcome): see job_end(). Returns the job, or NULL if the list does not have it or it has ended
 * before. */
struct job *lease_list_end(struct lease_list *list, const struct job_outcome *outcome);

/* lease_list_child_died(list, death): see hold_child_died(). */
void lease_list_child_died(struct lease_list *list, const struct child_death *death);

/* lease_list_give_back(list, batch): the open jobs of that batch were never sent to the executor: they go back. */
void lease_list_give_back(struct lease_list *list, uint32_t batch);

/* lease_list_lose(list, id, cancelled): marks the job's lease as lost, if it is not yet; `cancelled`: because the job
 * was cancelled. Returns it if the job still runs, or NULL. */
struct lease *lease_list_lose(struct lease_list *list, int64_t id, bool cancelled);

/* lease_list_miss(list, id): the row of the job was not found under its token. Returns true if its transactional
 * handler may just have completed it: this is possible the first time. The next time the lease is lost, and the
 * function returns false. */
bool lease_list_miss(struct lease_list *list, int64_t id);

/* lease_list_drop(list, id): removes the job, which was never sent to the executor. */
void lease_list_drop(struct lease_list *list, int64_t id);

/* lease_list_has(list, batch): whether a job of that batch is open. */
bool lease_list_has(const struct lease_list *list, uint32_t batch);

/* lease_list_busy(list): how many jobs are open. lease_list_ended(list): how many have an outcome to settle. */
int lease_list_busy(const struct lease_list *list);
int lease_list_ended(const struct lease_list *list);

/* lease_list_collect(list, batch): moves jobs that have ended to the batch. Outcomes of lost leases are dropped, with a
 * line in the log: OUTCOME_CANCELLED takes their place, unless the job has not begun. */
void lease_list_collect(struct lease_list *list, struct batch *batch);

/* lease_list_find(list, id): returns the open job with that id, or NULL. */
struct job *lease_list_find(const struct lease_list *list, int64_t id);

#endif
