#ifndef PGQ_STATS_H
#define PGQ_STATS_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "binary.h"
#include "queue.h"
#include "statements.h"

/*
 * The worker's share of pgq_stats: what the tallies of its queues have counted is added to the table every ten seconds,
 * and when the worker stops.
 */
struct stats;

/* stats_new(queues, act, owner): act(owner, statement, parameters) sends a statement in the control session, which is
 * up. All of them must outlive the object. */
struct stats *stats_new(const struct queue_list *queues,
                        void (*act)(void *owner, enum statement statement, const struct parameters *parameters),
                        void *owner);

/* stats_write(stats): sends what was counted since the last time, of at most 1,000 queues; the others follow the next
 * time. Returns false if there is nothing to send, or an answer is awaited. The session must be up. */
bool stats_write(struct stats *stats);

/* stats_down(stats): the session was lost. A share without an answer is sent again. */
void stats_down(struct stats *stats);

/* stats_result(stats, statement, result): takes the answer if the statement is STATEMENT_ADD_STATS. Returns whether it
 * is. */
bool stats_result(struct stats *stats, enum statement statement, const PGresult *result);

/* stats_free(stats): NULL is allowed. */
void stats_free(struct stats *stats);

#endif
