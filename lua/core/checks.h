#ifndef PGQ_CHECKS_H
#define PGQ_CHECKS_H

#include <lua.h>

/* Adds to the table on top of the stack what Lua asks of runtime/common: is_text, clean_text, check_setting. */
void checks_register(lua_State *L);

#endif
