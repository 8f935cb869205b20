#ifndef PGQ_RESCUE_H
#define PGQ_RESCUE_H

#include <stdbool.h>

#include "batch.h"
#include "lease.h"
#include "statements.h"

/*
 * Outcomes that could not be written, because the session was lost or a statement failed. They are kept until their
 * rows can be locked again. A zeroed rescue is empty.
 */
struct rescue {
  struct batch jobs;
  bool wait;   /* a lost session may still have the rows: the next attempt waits until they are unlocked */
  bool locked; /* other sessions have locked the rows of the jobs: they are tried again at again_ms */
  int64_t again_ms;
  bool singly; /* the content of one outcome makes the settle fail: outcomes are settled one at a time */
};

void rescue_free(struct rescue *rescue);

/* rescue_keep(rescue, batch): takes over the jobs of the batch that have something to write. The batch is empty then.
 */
void rescue_keep(struct rescue *rescue, struct batch *batch);

/* rescue_is_due(rescue): whether it has jobs, and they are to be tried now. */
bool rescue_is_due(const struct rescue *rescue);

/*
 * rescue_keep_ignored(rescue, batch): the batch is committed: takes over the jobs whose write has changed no row, and
 * pauses their queues. Returns how often that has happened to the same job at most; 0: all jobs are written.
 *
 * Once, it does not prove anything: the lease of the job may be lost, or another job of the statement is concerned. The
 * next act locks the row. If it finds the row, and the write changes nothing again, then a trigger, a rule or row
 * security is the cause.
 */
int rescue_keep_ignored(struct rescue *rescue, struct batch *batch);

/* rescue_find_ignored(batch): returns a job whose writes the database ignores for certain, or NULL. */
const struct job *rescue_find_ignored(const struct batch *batch);

/* rescue_next(rescue, batch, parameters): moves all jobs, or the next one if `singly`, to the batch, and adds the
 * parameters of the statement that it returns, which locks their rows. */
enum statement rescue_next(struct rescue *rescue, struct batch *batch, struct parameters *parameters);

/*
 * rescue_sort(rescue, batch, lost, context): removes the jobs that could not be locked. Those whose rows have changed
 * are dropped: their outcome is written already, or another worker has claimed them; lost(context, id) is called for
 * each of them that was to be leased. Those whose rows are only locked by another session go back to the rescue, for
 * another attempt a second later.
 */
void rescue_sort(struct rescue *rescue, struct batch *batch, void (*lost)(void *context, int64_t id), void *context);

/* rescue_blame(job, message): the job cannot be settled, not even alone, because of its content. It will be failed for
 * good, with the database's message as its error. */
void rescue_blame(struct job *job, const char *message);

#endif
