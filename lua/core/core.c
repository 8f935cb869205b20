/*
 * pgq.core: the part of the Lua module `pgq` that needs libpq or runtime/common. Only the Lua half in lua/pgq/ calls
 * it, and checks the types of the arguments.
 */

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "builder.h"
#include "duration.h"
#include "enqueuer.h"
#include "handle.h"
#include "json_text.h"
#include "options.h"
#include "prepared.h"
#include "protocol.h"
#include "retry_waits.h"
#include "statement.h"
#include "text.h"
#include "value.h"
#include "version.h"

__attribute__((visibility("default"))) int luaopen_pgq_core(lua_State *L);

/* ---- Times */

static int fail_value(lua_State *L, const char *problem) {
  lua_pushnil(L);
  lua_pushstring(L, problem);
  return 2;
}

/* duration(value) -> text in the form of Go, milliseconds; or nil, problem. A number, or a text that is one, is
 * seconds. The problem is the end of a sentence whose subject is the duration, as in duration.h. */
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
  if (!(seconds >= -62135596800.0 && seconds < 9224318016000.0)) /* years 1 to 294276, Postgres' last; false for NaN */
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

/* retry_wait(text) -> milliseconds of an element of pgq_jobs.retry_waits; or nil, problem. Unlike duration(), it does
 * not accept a number without a unit. */
static int core_retry_wait(lua_State *L) {
  const char *problem;
  size_t length;
  int64_t ms;
  const char *text = luaL_checklstring(L, 1, &length);
  if (duration_parse(text, length, &ms, &problem) != 0)
    return fail_value(L, problem);
  lua_pushnumber(L, (lua_Number)ms);
  return 1;
}

/* ---- Texts and settings */

/* is_text(bytes) -> whether Postgres can store the bytes as text. */
static int core_is_text(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  lua_pushboolean(L, text_is_utf8(text, length));
  return 1;
}

/* clean_text(bytes) -> the text that the worker writes into the table for an error message. */
static int core_clean_text(lua_State *L) {
  static char clean[ERROR_TEXT_MOST + 1];
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  size_t clean_length = text_clean(clean, sizeof clean, text, length);
  lua_pushlstring(L, clean, clean_length);
  return 1;
}

/* check_setting(name, value) -> nothing when pgq.configure may set it; or what is wrong with it. */
static int core_check_setting(lua_State *L) {
  struct option_problem problem;
  if (options_from_script(NULL, luaL_checkstring(L, 1), luaL_checkstring(L, 2), &problem) == 0)
    return 0;
  lua_pushstring(L, problem.message);
  return 1;
}

/* bytea(bytes) -> a value that travels as a parameter of type bytea. */
static int core_bytea(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  lua_settop(L, 1);
  value_mark(L, VALUE_BYTEA);
  return 1;
}

/* ---- The module */

/* Sets the field `sql` of the table on the stack: the texts of the statements in sql/lua, by their names. */
static void set_statements(lua_State *L) {
  static const struct {
    const char *name, *text;
  } statements[] = {
#include "lua_sql.h"
  };
  lua_newtable(L);
  for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
    lua_pushstring(L, statements[i].text);
    lua_setfield(L, -2, statements[i].name);
  }
  lua_setfield(L, -2, "sql");
}

int luaopen_pgq_core(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"bytea", core_bytea},
      {"check_setting", core_check_setting},
      {"clean_text", core_clean_text},
      {"connect", handle_connect},
      {"connect_start", handle_connect_start},
      {"duration", core_duration},
      {"is_text", core_is_text},
      {"json", json_text_mark},
      {"retry_wait", core_retry_wait},
      {"sleep", core_sleep},
      {"timestamp", core_timestamp},
      {NULL, NULL},
  };
  builder_init(L);
  value_init(L);
  handle_init(L);
  prepared_init(L);
  statement_init(L);
  enqueuer_init(L);
  lua_newtable(L);
  luaL_setfuncs(L, functions, 0);
  set_statements(L);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  lua_pushnumber(L, PGQ_DATA_MAX);
  lua_setfield(L, -2, "data_max");
  lua_pushliteral(L, RETRY_WAITS_DEFAULT); /* as Postgres writes the array */
  lua_setfield(L, -2, "default_retry_waits");
  lua_pushliteral(L, PGQ_LUA_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}
