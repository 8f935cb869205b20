#ifndef PGQ_SETTLE_H
#define PGQ_SETTLE_H

#include "batch.h"
#include "history.h"
#include "statements.h"

/* Settling: writing the outcomes of a batch to the database, with one statement for all jobs that end alike. */

/* settle_make_ascii(batch): replaces every character beyond ASCII in error texts, for databases in another encoding
 * than UTF-8. */
void settle_make_ascii(struct batch *batch);

/*
 * settle_send(batch, lease_ms, history, version, send, context): calls send() with each statement that is needed. No
 * statement is needed if all jobs go back and none was leased. Leases last `lease_ms`; those of transactional jobs last
 * for the time limit and a margin. `history` is what the rows of pgq_attempts say about the worker, and `version` is
 * that of the script, or "".
 */
void settle_send(const struct batch *batch, int64_t lease_ms, const struct history *history, const char *version,
                 void (*send)(void *context, enum statement statement, const struct parameters *parameters),
                 void *context);

/* settle_take(batch, statement, result): marks the jobs that a statement of settle_send() has written, or that
 * STATEMENT_LOCK_FOR_RESCUE has locked. If a statement that returns no ids has changed fewer rows than it names jobs,
 * none of its jobs is marked. Returns whether the statement writes outcomes. */
bool settle_take(struct batch *batch, enum statement statement, const PGresult *result);

/* settle_reschedules(statement): after a statement of settle_send(), jobs may be due again, now or later. */
bool settle_reschedules(enum statement statement);

/* settle_is_ignored(job): after the COMMIT: a statement should have written the job, and has not. */
bool settle_is_ignored(const struct job *job);

/* settle_event(job): the event for which a trigger or rule would see the write of the job's outcome: "DELETE" or
 * "UPDATE". */
const char *settle_event(const struct job *job);

/* settle_lock_parameters(batch, parameters): adds the parameters of STATEMENT_LOCK_FOR_RESCUE for all jobs. */
void settle_lock_parameters(const struct batch *batch, struct parameters *parameters);

/* settle_log(batch): the outcomes are committed: logs each job that failed, and at level debug each job that ended. */
void settle_log(const struct batch *batch);

#endif
