#ifndef PGQ_REGIONS_H
#define PGQ_REGIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "connection.h"
#include "frontier.h"

/*
 * Reserves regions (region.h) for the queues of this worker, in its control session. If that fails, the worker claims
 * without regions. The control passes on the results of STATEMENT_RESERVE_REGION.
 */
struct regions;

/* regions_new(connection, worker_id, frontier): sets `frontier`, through which claims ask for regions from now on. All
 * three must outlive the regions. */
struct regions *regions_new(struct connection *connection, const int64_t *worker_id, struct frontier *frontier);

/* regions_down(regions): the session was lost: no answer comes any more. */
void regions_down(struct regions *regions);

/* regions_result(regions, statement, result): a result has come in. Returns false if it is none of a reservation. */
bool regions_result(struct regions *regions, enum statement statement, const PGresult *result);

/* regions_free(regions): NULL is allowed. */
void regions_free(struct regions *regions);

#endif
