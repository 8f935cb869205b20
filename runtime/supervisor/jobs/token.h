#ifndef PGQ_TOKEN_H
#define PGQ_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The tokens of leases. A token names its worker: the upper half has the lower 30 bits of the worker's id in
 * pgq_workers, the lower half counts the worker's leases. end_dead_worker.sql finds the leases of a dead worker by
 * this. A token is greater than 0.
 */

/* token_set_worker(id): tokens name this worker from now on. Before the first call they have a random upper half that
 * no worker's id has. */
void token_set_worker(int64_t id);

/* token_next(count): returns the first of `count` consecutive tokens. No other call, and no other worker, returns any
 * of them, until this worker has leased four billion jobs. */
int64_t token_next(int count);

#endif
