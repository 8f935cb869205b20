#ifndef PGQ_JSON_TEXT_H
#define PGQ_JSON_TEXT_H

/* Lua values as JSON: lists become arrays, other tables become objects, and so does {}. */

#include <lua.h>

/* Lua: json(value) -> a value that travels as a parameter of type jsonb; or nil, problem when JSON cannot represent the
 * value. Raises a Lua error when memory runs out. */
int json_text_mark(lua_State *L);

#endif
