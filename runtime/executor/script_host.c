/* The functions that Lua calls: those of require "pgq.host", and the luv of the executor. */
#include <lauxlib.h>
#include <luv/luv.h>
#include <string.h>

#include "buffer.h"
#include "script_state.h"

/* The address of this variable is the host table's key in the registry. */
static const char host_key;

static struct script *self(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(1));
}

static int host_stop(lua_State *L) {
  const struct script_config *config = self(L)->config;
  config->stop(config->owner);
  return 0;
}

/* ── tasks ── */

/* task() -> number of the task that is running, or nil outside of tasks. */
static int host_task(lua_State *L) {
  const struct script_config *config = self(L)->config;
  uint32_t number;
  if (config->current(config->owner, &number))
    lua_pushinteger(L, (lua_Integer)number);
  else
    lua_pushnil(L);
  return 1;
}

/* ready(number): the wait of that task is over. */
static int host_ready(lua_State *L) {
  const struct script_config *config = self(L)->config;
  config->ready(config->owner, (uint32_t)luaL_checkinteger(L, 1));
  return 0;
}

/* report_end(number): asks for a call of host.ended(number) when that task has ended. */
static int host_report_end(lua_State *L) {
  const struct script_config *config = self(L)->config;
  config->watch(config->owner, (uint32_t)luaL_checkinteger(L, 1));
  return 0;
}

/* log(level, message). */
static int host_log(lua_State *L) {
  static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
  const struct script_config *config = self(L)->config;
  enum log_level level = (enum log_level)luaL_checkoption(L, 1, NULL, levels);
  size_t length;
  const char *text = luaL_checklstring(L, 2, &length);
  config->log(config->owner, level, text, length);
  return 0;
}

/* ── the table ── */

/* The address of this variable is the key of add_traceback() in the registry. The function is created in advance, since
 * memory may be short when luv calls back. */
static const char traceback_key;

static int add_traceback(lua_State *L) {
  const char *text = lua_tostring(L, 1);
  luaL_traceback(L, L, text ? text : luaL_typename(L, 1), 1);
  return 1;
}

void script_push_host(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&host_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

int script_open_host(lua_State *L) {
  script_push_host(L);
  return 1;
}

void script_make_host(lua_State *L, struct script *script) {
  static const luaL_Reg functions[] = {
      {"stop", host_stop}, {"task", host_task},      {"ready", host_ready}, {"report_end", host_report_end},
      {"log", host_log},   {"luv", script_open_luv}, {NULL, NULL}};
  lua_pushlightuserdata(L, (void *)&host_key);
  lua_newtable(L);
  for (const luaL_Reg *function = functions; function->name; function++) {
    lua_pushlightuserdata(L, script);
    lua_pushcclosure(L, function->func, 1);
    lua_setfield(L, -2, function->name);
  }
  if (*script->config->conninfo) {
    lua_pushstring(L, script->config->conninfo);
    lua_setfield(L, -2, "conninfo");
  }
  lua_pushlightuserdata(L, script);
  lua_setfield(L, -2, "script");
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, "loading");
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_pushlightuserdata(L, (void *)&traceback_key);
  lua_pushcfunction(L, add_traceback);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

/* ── luv ── */

/* The address of this variable is the key of luv in the registry: it is opened once, even if a handler unloads it. */
static const char luv_key;

/* The only script of the executor; a variable, since finding it in the registry could need memory. */
static const struct script *luv_script;

static void log_callback_error(lua_State *L) {
  static const char about[] = "an error in a callback of luv: ";
  const struct script_config *config = luv_script->config;
  struct buffer line = {0};
  size_t length;
  const char *text = lua_tolstring(L, -1, &length);
  buffer_add(&line, about, sizeof about - 1);
  buffer_add(&line, text ? text : "?", text ? length : 1);
  config->log(config->owner, LOG_ERROR, (const char *)line.bytes, line.length);
  buffer_free(&line);
}

/*
 * Replaces luv's function for calling callbacks, which would end the process on an error: here the error is logged, and
 * the executor continues. Returns the number of results, which are on the stack, or a negative number after an error.
 */
static int call_back(lua_State *L, int arguments, int results, int flags) {
  int base = lua_gettop(L) - arguments; /* the index of the function, and then of the first result */
  (void)flags;
  lua_pushlightuserdata(L, (void *)&traceback_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  lua_insert(L, base);
  luv_script->config->callback(luv_script->config->owner, true);
  int failed = lua_pcall(L, arguments, results, base);
  luv_script->config->callback(luv_script->config->owner, false);
  lua_remove(L, base);
  if (!failed)
    return results == LUA_MULTRET ? lua_gettop(L) - base + 1 : results;
  log_callback_error(L);
  lua_settop(L, base - 1);
  if (failed == LUA_ERRMEM)
    luv_script->config->starved(luv_script->config->owner);
  return -failed;
}

/*
 * Luv on the executor's loop. host.guard removes the functions that would run or stop this loop. Luv calls callbacks in
 * the Lua thread that has opened it, which must be the main thread, not the coroutine of the first handler that
 * requires it.
 */
int script_open_luv(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&luv_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (!lua_isnil(L, -1))
    return 1;
  lua_pop(L, 1);
  script_push_host(L);
  lua_getfield(L, -1, "script");
  const struct script *script = lua_touserdata(L, -1);
  lua_State *main = script->L;
  luv_script = script;
  lua_getfield(L, -2, "guard");
  luv_set_loop(main, script->config->loop);
  luv_set_callback(main, call_back);
  lua_pushcfunction(main, luaopen_luv);
  int failed = lua_pcall(main, 0, 1, 0);
  if (main != L)
    lua_xmove(main, L, 1);
  if (failed)
    return lua_error(L);
  lua_call(L, 1, 1); /* guard */
  lua_pushlightuserdata(L, (void *)&luv_key);
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
  return 1;
}
