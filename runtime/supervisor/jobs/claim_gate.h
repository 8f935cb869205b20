#ifndef PGQ_CLAIM_GATE_H
#define PGQ_CLAIM_GATE_H

#include <stdbool.h>
#include <uv.h>

/*
 * Whose turn it is to claim. Of two claims that run side by side, each goes through what the other has locked, row by
 * row, and skips it; one that waits for the other's answer begins behind it, at the floor. So a worker makes its large
 * claims one after the other. What a worker of one executor claims in turn also comes in its order. A claim that is not
 * answered within a second has had its turn: its connection may be dead without anybody knowing.
 */
struct claim_gate;
struct hold;

/* claim_gate_new(loop, wake): wake(hold) is called when the turn of a hold has come that had to wait; it returns
 * whether it claims.
 */
struct claim_gate *claim_gate_new(uv_loop_t *loop, bool (*wake)(struct hold *hold));

/* claim_gate_enter(gate, hold): whether it may claim now. If not, it is called when it may. */
bool claim_gate_enter(struct claim_gate *gate, struct hold *hold);

/* claim_gate_leave(gate, hold): its claim has been answered, or failed; nothing if it was not its turn. */
void claim_gate_leave(struct claim_gate *gate, struct hold *hold);

/* claim_gate_withdraw(gate, hold): the hold is gone, or does not wait any more. */
void claim_gate_withdraw(struct claim_gate *gate, struct hold *hold);

/* claim_gate_free(gate): its memory goes with the loop's next turn. */
void claim_gate_free(struct claim_gate *gate);

#endif
