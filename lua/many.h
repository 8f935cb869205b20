#ifndef PGQ_MANY_H
#define PGQ_MANY_H

/* Enqueueing many jobs for Lua: what gives the jobs, and the list of their ids. */

#include <libpq-fe.h>
#include <lua.h>

#include "pgq.h"

/* Creates the metatable; once per Lua state, before anything else here. */
void many_init(lua_State *L);

/* Enqueues the jobs that the value at stack index `source` gives: a list of strings, or a function that returns the
 * next string, and nil at the end. Pushes what the Lua function returns, and returns how many values that is: the list
 * of ids; or nil, message, code; or nil, message when something that is no string was given. When the function throws,
 * nothing is enqueued, and the error goes on as a Lua error. `*busy` is true as long as the function may run: it must
 * not use the connection. */
int many_enqueue(lua_State *L, int source, PGconn *conn, const char *queue, const struct pgq_options *options,
                 bool *busy);

#endif
