#ifndef PGQ_WORKERS_H
#define PGQ_WORKERS_H

#include <libpq-fe.h>

#include "listing.h"
#include "options.h"

/* workers_command(options, argc, argv): `pgq-lua workers`: lists the workers. Returns the exit status. */
int workers_command(const struct options *options, int argc, char **argv);

/* The list: its columns, the first of which is the worker's id, and the privileges that its statements need. */
enum { WORKERS_COLUMNS = 27, WORKERS_ID = 0 };
extern const struct listing_column workers_columns[];
#define WORKERS_NEEDS "{pgq_workers SELECT}"

/* workers_add(listing, result, number, running, now): adds the worker in this row of workers.sql to a list with these
 * columns. `running` are the rows of worker_jobs.sql, or NULL. `now` is the time of the transaction. */
void workers_add(struct listing *listing, const PGresult *result, int number, const PGresult *running, const char *now);

#endif
