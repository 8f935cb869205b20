#ifndef PGQ_ARRAY_LITERAL_H
#define PGQ_ARRAY_LITERAL_H

/* Lua lists as parameters: the literal of a Postgres array. */

#include <libpq-fe.h>
#include <lua.h>

#include "pgq.h"

/* Pushes the array literal of the list at the absolute stack index. Sets *type to the type of the parameter if the
 * elements determine it, and leaves it as it is otherwise. Returns 0; or -1 with an error that begins with `name`,
 * after which the stack may be higher than before. May raise a Lua error when memory runs out. */
int array_literal_push(lua_State *L, int index, const char *name, Oid *type, struct pgq_error *error)
    __attribute__((warn_unused_result));

#endif
