#ifndef PGQ_CLAIM_FLEET_H
#define PGQ_CLAIM_FLEET_H

#include <stdbool.h>
#include <stdint.h>

#include "claim.h"

/*
 * The part of claim.h that is about other workers which share the queues: claims in regions (region.h), and sweeps.
 *
 * Workers that share a queue come to its end at about the same time. If all of them then swept at once, each would read
 * the same rows that the others have deleted, which costs the more the more workers there are. So a worker that shares
 * a queue of quick jobs sweeps it under a lock: while one worker sweeps, the claims of the others start at the floors,
 * and they try again after a while (sql/worker/lock_sweep.sql). A worker in a region sweeps when a reservation tells it
 * to.
 */

/* claim_fleet_start(claim, i, may_sweep): returns where the claim of the i-th asked queue starts, and sets `swept` and
 * `ends`. If the next region of the queue is entered, its begin is the queue's new floor. */
struct place claim_fleet_start(struct claim *claim, uint32_t i, bool may_sweep);

/* claim_fleet_locks_sweep(claim): whether the claim may be a sweep only under the lock. */
bool claim_fleet_locks_sweep(const struct claim *claim);

/* claim_fleet_parameters(claim, parameters): if the claim has to do with other workers, adds the parameters that
 * STATEMENT_CLAIM_IN_FLEET has beyond those of STATEMENT_CLAIM. Returns the statement. */
enum statement claim_fleet_parameters(const struct claim *claim, struct parameters *parameters);

/* claim_sweep_lock_parameters(claim, parameters): adds the parameters of STATEMENT_LOCK_SWEEP, which is sent before a
 * claim with `locks_sweep`. claim_take_sweep_lock(claim, locked): its answer; without the lock the claim is no sweep.
 */
void claim_sweep_lock_parameters(const struct claim *claim, struct parameters *parameters);
void claim_take_sweep_lock(struct claim *claim, bool locked);

/* claim_fleet_end(claim, i, empty): the i-th asked queue gave fewer jobs than the claim asked for, or none (`empty`).
 * Moves its floor. */
void claim_fleet_end(struct claim *claim, uint32_t i, bool empty);

#endif
