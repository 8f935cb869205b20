/* Questions about texts and settings that a worker's host answers itself, and pgq.testing asks here. */

#include "checks.h"

#include <lauxlib.h>

#include "options.h"
#include "protocol.h"
#include "text.h"

/* is_text(bytes) -> boolean: whether Postgres can store them as text. */
static int core_is_text(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  lua_pushboolean(L, text_is_utf8(text, length));
  return 1;
}

/* clean_text(bytes) -> the text that an error message becomes in the table. */
static int core_clean_text(lua_State *L) {
  static char clean[ERROR_TEXT_MOST + 1];
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  size_t clean_length = text_clean(clean, sizeof clean, text, length);
  lua_pushlstring(L, clean, clean_length);
  return 1;
}

/* check_setting(name, value) -> what is wrong with it for pgq.configure, or nothing. */
static int core_check_setting(lua_State *L) {
  struct option_problem problem;
  if (options_from_script(NULL, luaL_checkstring(L, 1), luaL_checkstring(L, 2), &problem) == 0)
    return 0;
  lua_pushstring(L, problem.message);
  return 1;
}

void checks_register(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"check_setting", core_check_setting}, {"clean_text", core_clean_text}, {"is_text", core_is_text}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
