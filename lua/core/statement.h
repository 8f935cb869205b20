#ifndef PGQ_STATEMENT_H
#define PGQ_STATEMENT_H

/*
 * Statements on a handle. A statement runs in three steps: send; advance() whenever the socket is ready, until the
 * statement has ended, or finish(), which blocks; take what the server has returned.
 */

#include <lua.h>

#include "pgq.h"

/* Adds the methods to all handles. Must be called after handle_init(). */
void statement_init(lua_State *L);

/* Reads the arguments queue, after, delay_ms and waits of an enqueueing method from stack index `first` on. All but the
 * queue may be nil. The texts stay Lua's; an array that is pushed must stay on the stack as long as they are used.
 * Returns 0, or -1 with an error. */
int statement_read_options(lua_State *L, int first, const char **queue, struct pgq_options *options,
                           struct pgq_error *error) __attribute__((warn_unused_result));

#endif
