#ifndef PGQ_CLAIM_GATE_H
#define PGQ_CLAIM_GATE_H

#include <stdbool.h>
#include <uv.h>

/*
 * The gate through which the holds of a worker make their large claims, one at a time.
 *
 * If two claims ran at the same time, each would read and skip the rows that the other has locked. A claim that waits
 * for the answer to the other one starts at the new floor, and skips nothing. With one executor the gate also keeps
 * jobs in order. A claim that is not answered within a second no longer blocks the gate: its connection may be dead,
 * and the worker may not know it yet.
 */
struct claim_gate;
struct hold;

/* claim_gate_new(loop, open): open(hold) is called when the gate opens for a hold that waits, and returns whether the
 * hold claims. If it does not, the gate opens for the next hold. */
struct claim_gate *claim_gate_new(uv_loop_t *loop, bool (*open)(struct hold *hold));

/* claim_gate_enter(gate, hold): returns true if the hold may claim now. Otherwise the hold joins the end of the wait
 * queue. */
bool claim_gate_enter(struct claim_gate *gate, struct hold *hold);

/* claim_gate_leave(gate, hold): the hold's claim was answered, or has failed. Does nothing if the hold has not
 * entered. */
void claim_gate_leave(struct claim_gate *gate, struct hold *hold);

/* claim_gate_withdraw(gate, hold): the hold neither claims nor waits any more. */
void claim_gate_withdraw(struct claim_gate *gate, struct hold *hold);

/* claim_gate_is_waiting(gate, hold): whether the hold is in the wait queue. */
bool claim_gate_is_waiting(const struct claim_gate *gate, const struct hold *hold);

/*
 * claim_gate_shut(gate): a hold has outcomes which the database refuses: until claim_gate_unshut(), no hold claims, so
 * that no job begins whose outcome could not be written. Each hold that shuts the gate unshuts it.
 */
void claim_gate_shut(struct claim_gate *gate);
void claim_gate_unshut(struct claim_gate *gate);
bool claim_gate_is_shut(const struct claim_gate *gate);

/* claim_gate_add_ignored(gate): the database ignores writes of one more hold. Returns whether it is the first one, so
 * that this is logged once. claim_gate_remove_ignored(gate): the opposite. */
bool claim_gate_add_ignored(struct claim_gate *gate);
void claim_gate_remove_ignored(struct claim_gate *gate);

/* claim_gate_free(gate): the memory is freed in the loop's next turn. */
void claim_gate_free(struct claim_gate *gate);

#endif
