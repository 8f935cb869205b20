#ifndef PGQ_TURN_H
#define PGQ_TURN_H

#include <stdbool.h>
#include <uv.h>

/*
 * Whose turn it is to claim. Of two claims that run side by side, each goes through what the other has locked, row by
 * row, and skips it; one that waits for the other's answer begins behind it, at the floor. So a worker makes its large
 * claims one after the other. What a worker of one executor claims in turn also comes in its order. A claim that is not
 * answered within a second has had its turn: its connection may be dead without anybody knowing.
 */
struct turn;
struct hold;

/* turn_new(loop, wake): wake(hold) is called when the turn of a hold has come that had to wait; it returns whether it
 * claims.
 */
struct turn *turn_new(uv_loop_t *loop, bool (*wake)(struct hold *hold));

/* turn_take(turn, hold): whether it may claim now. If not, it is called when it may. */
bool turn_take(struct turn *turn, struct hold *hold);

/* turn_end(turn, hold): its claim has been answered, or failed; nothing if it was not its turn. */
void turn_end(struct turn *turn, struct hold *hold);

/* turn_leave(turn, hold): the hold is gone, or does not wait any more. */
void turn_leave(struct turn *turn, struct hold *hold);

/* turn_free(turn): its memory goes with the loop's next turn. */
void turn_free(struct turn *turn);

#endif
