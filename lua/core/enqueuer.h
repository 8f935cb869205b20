#ifndef PGQ_ENQUEUER_H
#define PGQ_ENQUEUER_H

#include <lua.h>

/* Creates the metatable of enqueuers, and adds the method handle:enqueuer(). Must be called after handle_init(). */
void enqueuer_init(lua_State *L);

#endif
