/* pgq.core: the part of the Lua module `pgq` that needs libpq. The Lua half in lua/pgq/ is its only caller, and checks
 * the arguments; here they are trusted as to their types. */

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "checks.h"
#include "duration.h"
#include "handle.h"
#include "values.h"
#include "version.h"

__attribute__((visibility("default"))) int luaopen_pgq_core(lua_State *L);

/* ---- Times */

static int fail_value(lua_State *L, const char *problem) {
  lua_pushnil(L);
  lua_pushstring(L, problem);
  return 2;
}

/* duration(value) -> text in the form of Go, milliseconds; or nil, problem. A number, also as text, is seconds. */
static int core_duration(lua_State *L) {
  char text[DURATION_TEXT_SIZE];
  int64_t ms;
  if (lua_type(L, 1) == LUA_TNUMBER) {
    double seconds = lua_tonumber(L, 1);
    if (isnan(seconds))
      return fail_value(L, "is not a number");
    if (seconds < 0)
      return fail_value(L, "is negative");
    if (seconds > (double)DURATION_MAX_MS / 1000)
      return fail_value(L, "is too long");
    ms = (int64_t)floor(seconds * 1000 + 0.5);
  } else {
    const char *problem;
    size_t length;
    const char *value = luaL_checklstring(L, 1, &length);
    if (duration_parse_option(value, length, &ms, &problem) != 0)
      return fail_value(L, problem);
  }
  duration_format(ms, text);
  lua_pushstring(L, text);
  lua_pushnumber(L, (lua_Number)ms);
  return 2;
}

/* timestamp(unix seconds) -> text of a timestamptz; or nil, problem. */
static int core_timestamp(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  char text[64];
  if (!(seconds >= -62135596800.0 && seconds < 9224318016000.0)) /* the years 1 to 294276, Postgres' last; not NaN */
    return fail_value(L, "is out of range");
  time_t whole = (time_t)floor(seconds);
  long micros = lround((seconds - floor(seconds)) * 1e6);
  if (micros == 1000000) {
    whole++;
    micros = 0;
  }
  struct tm utc;
  gmtime_r(&whole, &utc);
  snprintf(text, sizeof text, "%04d-%02d-%02d %02d:%02d:%02d.%06ld+00", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
           utc.tm_hour, utc.tm_min, utc.tm_sec, micros);
  lua_pushstring(L, text);
  return 1;
}

/* sleep(ms): blocks. */
static int core_sleep(lua_State *L) {
  int64_t ms = (int64_t)luaL_checknumber(L, 1);
  struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR)
    ;
  return 0;
}

/* ---- The module */

int luaopen_pgq_core(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"bytea", values_bytea},
      {"connect", handle_connect},
      {"connect_start", handle_connect_start},
      {"duration", core_duration},
      {"json", values_json},
      {"sleep", core_sleep},
      {"timestamp", core_timestamp},
      {NULL, NULL},
  };
  values_init(L);
  many_init(L);
  handle_init(L);
  lua_newtable(L);
  luaL_setfuncs(L, functions, 0);
  checks_register(L);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  lua_pushliteral(L, PGQ_LUA_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}
