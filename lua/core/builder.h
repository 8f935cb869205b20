#ifndef PGQ_BUILDER_H
#define PGQ_BUILDER_H

/* A text that grows, in memory that is not Lua's. It hangs on a userdata, so that the garbage collector frees it when a
 * Lua error is raised. */

#include <lua.h>
#include <stddef.h>

struct builder {
  char *text; /* without a final NUL */
  size_t length, capacity;
};

/* Creates the metatable. Must be called once per Lua state, before any other function here. */
void builder_init(lua_State *L);

/* Pushes a new, empty builder. */
struct builder *builder_new(lua_State *L);

/* Appends a copy of the bytes. Raises a Lua error when memory runs out. */
void builder_add(lua_State *L, struct builder *builder, const char *bytes, size_t length);

/* Pushes the text as a Lua string, and frees it. */
void builder_push(lua_State *L, struct builder *builder);

#endif
