#ifndef PGQ_QUEUES_H
#define PGQ_QUEUES_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "listing.h"
#include "options.h"

/* queues_command(options, argc, argv): `pgq-lua queues`: lists the queues. Returns the exit status. */
int queues_command(const struct options *options, int argc, char **argv);

/* The list: its columns, the first of which is the name of the queue, and the privileges that queues.sql needs. */
enum { QUEUES_COLUMNS = 23, QUEUES_STATE = 8 };
extern const struct listing_column queues_columns[];
#define QUEUES_NEEDS "{pgq_jobs SELECT,pgq_workers SELECT,pgq_queues SELECT,pgq_stats SELECT}"

/* queues_want_names(result): whether the rows of queues.sql have a queue without a worker: then queues_add() wants the
 * names that workers register. */
bool queues_want_names(const PGresult *result);

/* queues_add(listing, result, most, names, now): adds the first `most` rows of queues.sql to a list with these columns.
 * `names` are the rows of registered_queues.sql, or NULL. `now` is the time of the transaction. */
void queues_add(struct listing *listing, const PGresult *result, int most, const PGresult *names, const char *now);

#endif
