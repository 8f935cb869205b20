#ifndef PGQ_REFUSED_H
#define PGQ_REFUSED_H

#include <stdbool.h>

#include "batch.h"
#include "statements.h"

/*
 * Jobs whose rows the database does not let change while it takes the outcomes of others: a trigger raises an error, a
 * trigger or a rule ignores the write. Each is tried again by itself, after waits that grow from one second to a
 * minute. No claim of this worker brings it meanwhile. A zeroed list is empty.
 */
struct refused {
  struct batch jobs;
  struct batch unrun; /* see refused_keep_unrun() */
};

void refused_free(struct refused *refused);

/* refused_keep(refused, job): takes over the job. Its queue goes on with one job at a time, and pauses if the job
 * before was kept, too. */
void refused_keep(struct refused *refused, struct job *job);

/*
 * refused_keep_unrun(refused, job): the lease that the job must have before it runs cannot be written. Nothing has to
 * be written, but no claim of this worker brings the job until its wait is over. The struct is copied, without its
 * texts. Returns whether that is new: a job is forgotten a while after its wait.
 */
bool refused_keep_unrun(struct refused *refused, const struct job *job);

/* refused_find_ignored(refused): a job whose writes the database ignores, or NULL. */
const struct job *refused_find_ignored(const struct refused *refused);

/* refused_count(refused), refused_ids(refused, ids): the jobs that claims must not bring now; ids[] has room for
 * refused_count(). Returns how many these are. */
int refused_count(const struct refused *refused);
int refused_ids(const struct refused *refused, int64_t *ids);

/* refused_is_due(refused): whether a job is to be tried now. */
bool refused_is_due(const struct refused *refused);

/* refused_next(refused, batch, parameters): moves the first job that is due to the batch, which is empty, and adds the
 * parameters of the statement that it returns, which locks its row. */
enum statement refused_next(struct refused *refused, struct batch *batch, struct parameters *parameters);

/* refused_put_back(refused, batch): these jobs could not be tried, since another session has locked their rows. The
 * batch is empty then. */
void refused_put_back(struct refused *refused, struct batch *batch);

/* refused_retry(refused): one of the jobs was written: all others are due now. */
void refused_retry(struct refused *refused);

/* refused_take_lease(refused, id): if the lease of that job is kept, drops it, and returns true: the job has ended, and
 * its row is as it was claimed. */
bool refused_take_lease(struct refused *refused, int64_t id);

#endif
