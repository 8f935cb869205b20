#include "script_state.h"

#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "embedded.h"
#include "executable_memory.h"
#include "memory.h"
#include "message.h"

/* The C half of the module pgq, which is linked into the program (lua/core/core.c). */
int luaopen_pgq_core(lua_State *L);

/* ── the state ── */

/* A package loader for the module pgq and its parts, which are embedded in the program. */
static int load_embedded(lua_State *L) {
  char path[128];
  const char *name = luaL_checkstring(L, 1);
  if (strcmp(name, "pgq") != 0 && strncmp(name, "pgq.", 4) != 0)
    return 0;
  snprintf(path, sizeof path, "lua/%s", name);
  for (char *c = path; *c; c++)
    *c = *c == '.' ? '/' : *c;
  strncat(path, ".lua", sizeof path - strlen(path) - 1);
  const struct embedded_file *file = embedded_find(path);
  if (!file)
    return 0;
  char chunk[140];
  snprintf(chunk, sizeof chunk, "@%s", path);
  if (luaL_loadbuffer(L, (const char *)file->bytes, file->length, chunk) != 0)
    return lua_error(L);
  return 1;
}

/* Puts load_embedded() before the loaders of files: an installed pgq may have another version. */
static void add_loaders(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, luaopen_pgq_core);
  lua_setfield(L, -2, "pgq.core");
  lua_pushcfunction(L, script_open_host);
  lua_setfield(L, -2, "pgq.host");
  lua_pushcfunction(L, script_open_luv);
  lua_setfield(L, -2, "luv");
  lua_pop(L, 1);
  lua_getfield(L, -1, "loaders");
  for (int i = (int)lua_objlen(L, -1); i >= 2; i--) {
    lua_rawgeti(L, -1, i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushcfunction(L, load_embedded);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 2);
}

/* Sets the global `arg` as luajit does: arg[0] is the script, its arguments follow, words before it have negative
 * indexes. */
static void set_arg(lua_State *L, const struct script_config *config) {
  lua_newtable(L);
  for (int i = 0; i < config->argc; i++) {
    lua_pushstring(L, config->argv[i]);
    lua_rawseti(L, -2, i - config->script);
  }
  lua_setglobal(L, "arg");
}

/* LuaJIT gives every state the same seed, so that math.random() would return the same numbers in all executors. */
static void seed_random(lua_State *L) {
  uint32_t seed;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
    seed = (uint32_t)clock_us();
  lua_getglobal(L, "math");
  lua_getfield(L, -1, "randomseed");
  lua_pushnumber(L, seed);
  lua_call(L, 1, 0);
  lua_pop(L, 1);
}

/* This must happen before the script runs: the script may keep references to functions of coroutine and luv that
 * pgq.tasks replaces. */
static void load_tasks(lua_State *L) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "pgq.running.tasks");
  lua_call(L, 1, 0);
}

/* The compiler would end the process when it finds that it cannot run. The script must not switch it on. */
static void switch_compiler_off(lua_State *L) {
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
  lua_getglobal(L, "jit");
  lua_getfield(L, -1, "off");
  lua_setfield(L, -2, "on");
  lua_pop(L, 1);
}

static int set_up(lua_State *L) {
  struct script *script = lua_touserdata(L, 1);
  luaL_openlibs(L);
  if (!executable_memory_works())
    switch_compiler_off(L);
  seed_random(L);
  script_watch_settings(L, script);
  script_sources_watch(L, &script->sources);
  script_make_host(L, script);
  script_keep_run(L);
  add_loaders(L);
  set_arg(L, script->config);
  load_tasks(L);
  return 0;
}

struct script *script_new(const struct script_config *config) {
  struct script *script = memory_new(sizeof *script);
  script->config = config;
  script->sources = (struct script_sources){.given = config->sources, .loading = true};
  script->L = luaL_newstate();
  if (!script->L || lua_cpcall(script->L, set_up, script) != 0) {
    script_free(script);
    return NULL;
  }
  return script;
}

void script_free(struct script *script) {
  if (!script)
    return;
  if (script->L)
    lua_close(script->L);
  free(script->threads);
  script_sources_free(&script->sources);
  free(script);
}

/* ── loading ── */

static int add_traceback(lua_State *L) {
  if (lua_type(L, 1) != LUA_TSTRING) {
    if (!luaL_callmeta(L, 1, "__tostring") || lua_type(L, -1) != LUA_TSTRING)
      lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    lua_replace(L, 1);
  }
  luaL_traceback(L, L, lua_tostring(L, 1), 1);
  return 1;
}

static int give_module(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  return 1;
}

/* From now on, if a handler unloads a part of the module pgq and requires it again, it gets the same one: a second one
 * would not know the first one's tasks and connections. */
static void keep_modules(lua_State *L) {
  luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
  int loaded = lua_gettop(L);
  lua_getfield(L, loaded, "package");
  lua_getfield(L, -1, "preload");
  for (lua_pushnil(L); lua_next(L, loaded) != 0; lua_pop(L, 1)) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    if (strcmp(name, "pgq") != 0 && strncmp(name, "pgq.", 4) != 0)
      continue;
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, give_module, 1);
    lua_setfield(L, -4, name);
  }
  lua_settop(L, loaded - 1);
}

/* Ends the registration of queues, and stores the values of the host table that C needs. */
static int end_loading(lua_State *L) {
  struct script *script = lua_touserdata(L, 1);
  keep_modules(L);
  script_push_host(L);
  lua_pushnil(L);
  lua_setfield(L, -2, "loading");
  lua_getfield(L, -1, "queues");
  script->queue_count = lua_istable(L, -1) ? (uint32_t)lua_objlen(L, -1) : 0;
  lua_getfield(L, -2, "wait");
  script->wait = lua_topointer(L, -1);
  lua_getfield(L, -3, "run");
  script->run = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static void take_message(lua_State *L, struct buffer *message) {
  size_t length;
  const char *text = lua_tolstring(L, -1, &length);
  if (!text) {
    text = "(error object is not a string)";
    length = strlen(text);
  }
  buffer_add(message, text, length);
}

static int run_file(lua_State *L, struct script *script, int *last_line) {
  const struct script_config *config = script->config;
  lua_Debug info;
  lua_pushcfunction(L, add_traceback);
  if (script_sources_load(L, &script->sources, config->argv[config->script]) != 0)
    return -1;
  lua_pushvalue(L, -1);
  *last_line = lua_getinfo(L, ">S", &info) ? info.lastlinedefined : 0;
  for (int i = config->script + 1; i < config->argc; i++)
    lua_pushstring(L, config->argv[i]);
  return lua_pcall(L, config->argc - config->script - 1, 0, -2 - (config->argc - config->script - 1));
}

int script_load(struct script *script, struct buffer *message) {
  lua_State *L = script->L;
  const char *file = script->config->argv[script->config->script];
  int last_line = 0;
  if (!lua_checkstack(L, script->config->argc + 20) || run_file(L, script, &last_line) != 0 ||
      lua_cpcall(L, end_loading, script) != 0) {
    take_message(L, message);
    return -1;
  }
  script->sources.loading = false;
  lua_settop(L, 0);
  if (script->queue_count > 0 && script_note_settings(script))
    return 0;
  char text[512];
  snprintf(text, sizeof text, "%.300s:%d: the script ends without a queue: call pgq.register_queue(name, handler)",
           file, last_line);
  buffer_add(message, text, strlen(text));
  return -1;
}

/* ── describing ── */

/* Pops the string at the top of the stack, and returns it. The table that it came from keeps it alive. */
static char *pop_text(lua_State *L) {
  const char *text = lua_tostring(L, -1);
  lua_pop(L, 1);
  return (char *)text;
}

static lua_Number get_number(lua_State *L, const char *name) {
  lua_getfield(L, -1, name);
  lua_Number number = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return number;
}

static enum choice get_choice(lua_State *L, const char *name) {
  lua_getfield(L, -1, name);
  enum choice choice = lua_isnil(L, -1) ? CHOICE_UNSET : lua_toboolean(L, -1) ? CHOICE_YES : CHOICE_NO;
  lua_pop(L, 1);
  return choice;
}

/* Returns the queue whose table is at the top of the stack. */
static struct message_queue get_queue(lua_State *L) {
  struct message_queue queue = {.preserve_completed = get_choice(L, "preserve_completed"),
                                .discard_failed = get_choice(L, "discard_failed"),
                                .timeout_ms = (int64_t)get_number(L, "timeout_ms"),
                                .concurrency = (uint32_t)get_number(L, "concurrency"),
                                .transactional = get_choice(L, "transactional") == CHOICE_YES};
  lua_getfield(L, -1, "name");
  queue.name = pop_text(L);
  return queue;
}

/* Adds the entries of host.settings, whose values are strings. */
static void add_settings(lua_State *L, struct message_ready *ready) {
  lua_getfield(L, -1, "settings");
  for (lua_pushnil(L); lua_next(L, -2) != 0;) {
    ready->settings = memory_resize(ready->settings, (ready->setting_count + 1) * sizeof *ready->settings);
    struct message_setting *setting = &ready->settings[ready->setting_count++];
    setting->value = pop_text(L);
    lua_pushvalue(L, -1);
    setting->name = pop_text(L);
  }
  lua_pop(L, 1);
}

void script_describe(struct script *script, struct buffer *out) {
  lua_State *L = script->L;
  struct message_ready ready = {.queue_count = script->queue_count};
  ready.queues = memory_new(ready.queue_count * sizeof *ready.queues);
  script_push_host(L);
  lua_getfield(L, -1, "queues");
  for (uint32_t i = 0; i < ready.queue_count; i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    ready.queues[i] = get_queue(L);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  add_settings(L, &ready);
  message_put_ready(out, &ready);
  lua_settop(L, 0);
  free(ready.queues);
  free(ready.settings);
}

const struct message_sources *script_sources_read(const struct script *script) {
  bool all = script->sources.bytes <= SOURCES_MOST;
  return all && script->sources.given->count == 0 ? &script->sources.read : NULL;
}

uint32_t script_queue_count(const struct script *script) {
  return script->queue_count;
}
