#ifndef PGQ_FUZZ_PLAYER_H
#define PGQ_FUZZ_PLAYER_H

#include <stdint.h>

/*
 * Implements script.h without Lua. The data of a job says what its handler does, byte by byte; bytes
 * without a meaning are ignored, and at the end of the data the job completes.
 *
 *     0 to 9   takes 1, 10, 100 … µs
 *     w N      waits, until N more turns of the loop have passed (N modulo 8; 7: until somebody else wakes it)
 *     y N      wakes task N, whatever that is
 *     k        wants to be told of its end
 *     l L p    writes a line of its own data into the log; a line that has to be cut; stops the worker
 *     v        (the supervisor meanwhile) revokes the rest of its batch
 *     f F      fails; with a message that has to be cut
 *     r N      fails, to be retried in N ms
 *     b d      backs off; is discarded
 *     s N      snoozes for N ms
 *     t        has settled, if it has a lease
 *
 * A wait that is interrupted raises: the handler goes on, but its next wait is its end when that is final. The script
 * of the name "broken" cannot be loaded, for reasons that have to be cut. There are PLAYER_QUEUES queues.
 */
enum { PLAYER_QUEUES = 3 };

struct shared_page;

/* player_open(page): nothing has happened yet. player_close(): frees what is kept. */
void player_open(struct shared_page *page);
void player_close(void);

/* player_turn(all): a turn of the loop has passed, or (`all`) so many that all who wait have what they wait for. */
void player_turn(int all);

#endif
