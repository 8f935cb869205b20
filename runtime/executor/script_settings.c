/* The part of script.h about settings of the Lua state that a handler can change, and that all handlers share. */
#include <lauxlib.h>
#include <luajit.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "process_state.h"
#include "script_state.h"

/* Addresses of these are keys of the registry: the settings after loading; those of tasks that wait, by number; the
 * functions below, as they were before they were replaced. */
static const char noted_key, kept_key, functions_key;

/* ── which functions change a setting ── */

/* Functions of the standard library that change a setting. `least`: the number of arguments with which they do so. */
static const struct setter {
  const char *library, *name;
  int least;
  bool reads_only_others; /* with another first argument than these, nothing changes: collectgarbage */
} setters[] = {
    {"io", "output", 1, false},        {"io", "input", 1, false},
    {"debug", "sethook", 0, false},    {"debug", "setmetatable", 0, false},
    {"math", "randomseed", 0, false},  {"jit", "on", 0, false},
    {"jit", "off", 0, false},          {"jit.opt", "start", 0, false},
    {"_G", "collectgarbage", 1, true},
};

static bool is_of_collector(lua_State *L) {
  const char *what = lua_tostring(L, 1);
  return what && (strcmp(what, "stop") == 0 || strcmp(what, "setpause") == 0 || strcmp(what, "setstepmul") == 0);
}

/* Functions that are needed here as they are now, whatever a handler puts in their place. */
static const struct setter kept_functions[] = {{.library = "debug", .name = "gethook"},
                                               {.library = "jit", .name = "status"}};

/* Upvalues: the function itself, the script, the index of the setter. */
static int set(lua_State *L) {
  struct script *script = lua_touserdata(L, lua_upvalueindex(2));
  const struct setter *setter = &setters[lua_tointeger(L, lua_upvalueindex(3))];
  int count = lua_gettop(L);
  if (count >= setter->least && (!setter->reads_only_others || is_of_collector(L))) {
    script->settings.changed = true;
    script->settings.seeded = script->settings.seeded || strcmp(setter->name, "randomseed") == 0;
    script->settings.optimized = script->settings.optimized || strcmp(setter->name, "start") == 0;
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, count, LUA_MULTRET);
  return lua_gettop(L);
}

static void push_registry(lua_State *L, const char *key) {
  lua_pushlightuserdata(L, (void *)key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

/* Pushes the original of a replaced function. */
static void push_original(lua_State *L, const char *name) {
  push_registry(L, &functions_key);
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
}

static void push_library(lua_State *L, const struct setter *setter) {
  luaL_findtable(L, LUA_REGISTRYINDEX, "_LOADED", 16);
  lua_getfield(L, -1, setter->library);
  lua_remove(L, -2);
}

static void keep_function(lua_State *L, const struct setter *setter) {
  push_registry(L, &functions_key);
  push_library(L, setter);
  lua_getfield(L, -1, setter->name);
  lua_setfield(L, -3, setter->name);
  lua_pop(L, 2);
}

/* Replaces the function on top of the stack by set(), which calls it. */
static void push_setter(lua_State *L, struct script *script, int setter) {
  lua_pushlightuserdata(L, script);
  lua_pushinteger(L, setter);
  lua_pushcclosure(L, set, 3);
}

/* jit.on and jit.off without an argument change a setting. With `true` they are about the function that calls them,
 * which is why a function takes their place that ends with a tail call. */
static void push_switch(lua_State *L, struct script *script, int setter) {
  static const char source[] = "local switch, note = ... "
                               "return function(about, deep) "
                               "if about == nil then note() return switch() end "
                               "return switch(about, deep) end";
  if (luaL_loadbuffer(L, source, sizeof source - 1, "=jit") != 0)
    lua_error(L);
  lua_insert(L, -2);
  push_original(L, "status"); /* a function that does nothing */
  push_setter(L, script, setter);
  lua_call(L, 2, 1);
}

void script_watch_settings(lua_State *L, struct script *script) {
  lua_pushlightuserdata(L, (void *)&functions_key);
  lua_newtable(L);
  lua_rawset(L, LUA_REGISTRYINDEX);
  for (size_t i = 0; i < sizeof kept_functions / sizeof kept_functions[0]; i++)
    keep_function(L, &kept_functions[i]);
  for (size_t i = 0; i < sizeof setters / sizeof setters[0]; i++) {
    keep_function(L, &setters[i]);
    push_library(L, &setters[i]);
    push_original(L, setters[i].name);
    if (strcmp(setters[i].library, "jit") == 0)
      push_switch(L, script, (int)i);
    else
      push_setter(L, script, (int)i);
    lua_setfield(L, -2, setters[i].name);
    lua_pop(L, 1);
  }
}

/* ── taking the settings ── */

/* A value of each type that shares one metatable. */
static void push_example(lua_State *L, int type) {
  switch (type) {
  case LUA_TBOOLEAN:
    lua_pushboolean(L, 0);
    break;
  case LUA_TLIGHTUSERDATA:
    lua_pushlightuserdata(L, (void *)&noted_key);
    break;
  case LUA_TNUMBER:
    lua_pushinteger(L, 0);
    break;
  case LUA_TSTRING:
    lua_pushliteral(L, "");
    break;
  case LUA_TFUNCTION:
    push_original(L, "sethook");
    break;
  case LUA_TTHREAD:
    lua_pushthread(L);
    break;
  default:
    lua_pushnil(L);
  }
}

/* Indexes in the table of settings. From METATABLES on by type. */
enum { HOOK = 1, MASK, COUNT, OUTPUT, INPUT, PAUSE, STEPMUL, RUNNING, COMPILES, METATABLES };

static const struct named {
  int index;
  const char *name;
} names[] = {{HOOK, "debug hook"},           {MASK, "debug hook"},
             {OUTPUT, "io.output"},          {INPUT, "io.input"},
             {PAUSE, "garbage collector"},   {STEPMUL, "garbage collector"},
             {RUNNING, "garbage collector"}, {COMPILES, "compiler"}};

/* Sets the field to the result of the named function without arguments, an original. */
static void take_result(lua_State *L, int table, int index, const char *name) {
  push_original(L, name);
  lua_call(L, 0, 1);
  lua_rawseti(L, table, index);
}

static void take_number(lua_State *L, int table, int index, int number) {
  lua_pushinteger(L, number);
  lua_rawseti(L, table, index);
}

/* debug.gethook returns the function also while the hook is off. */
static void take_hook(lua_State *L, int table, const struct script_hook *hook) {
  if (hook->mask != 0) {
    push_original(L, "gethook");
    lua_call(L, 0, 1);
    lua_rawseti(L, table, HOOK);
    lua_settop(L, table);
  }
  take_number(L, table, MASK, hook->mask);
  take_number(L, table, COUNT, hook->count);
}

/* Pushes a table with the current settings; the hook is the one that was parked. */
static void push_settings(lua_State *L, struct script *script) {
  lua_newtable(L);
  int table = lua_gettop(L);
  take_hook(L, table, &script->settings.parked);
  take_result(L, table, OUTPUT, "output");
  take_result(L, table, INPUT, "input");
  int pause = lua_gc(L, LUA_GCSETPAUSE, 200), stepmul = lua_gc(L, LUA_GCSETSTEPMUL, 200);
  lua_gc(L, LUA_GCSETPAUSE, pause);
  lua_gc(L, LUA_GCSETSTEPMUL, stepmul);
  take_number(L, table, PAUSE, pause);
  take_number(L, table, STEPMUL, stepmul);
  take_number(L, table, RUNNING, lua_gc(L, LUA_GCISRUNNING, 0));
  take_result(L, table, COMPILES, "status");
  for (int type = LUA_TNIL; type <= LUA_TTHREAD; type++) {
    if (type == LUA_TTABLE || type == LUA_TUSERDATA)
      continue;
    push_example(L, type);
    if (lua_getmetatable(L, -1))
      lua_rawseti(L, table, METATABLES + type);
    lua_settop(L, table);
  }
}

/* ── putting them back ── */

static int get_number(lua_State *L, int table, int index) {
  lua_rawgeti(L, table, index);
  int number = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  return number;
}

static void put_hook(lua_State *L, struct script *script, int table) {
  int mask = get_number(L, table, MASK);
  char text[4], *end = text;
  script->settings.hook_mask = mask;
  push_original(L, "sethook");
  if (mask == 0) { /* also forgets the function, which debug.gethook would return */
    lua_call(L, 0, 0);
    return;
  }
  for (size_t i = 0; i < 3; i++)
    if (mask & (int[]){LUA_MASKCALL, LUA_MASKRET, LUA_MASKLINE}[i])
      *end++ = "crl"[i];
  lua_rawgeti(L, table, HOOK);
  lua_pushlstring(L, text, (size_t)(end - text));
  lua_rawgeti(L, table, COUNT);
  lua_call(L, 3, 0);
}

static void put_file(lua_State *L, int table, int index, const char *name) {
  push_original(L, name);
  lua_rawgeti(L, table, index);
  lua_call(L, 1, 0);
}

/* The settings are those of the table at the index `table` from now on. */
static void put_settings(lua_State *L, struct script *script, int table) {
  put_file(L, table, OUTPUT, "output");
  put_file(L, table, INPUT, "input");
  lua_gc(L, LUA_GCSETPAUSE, get_number(L, table, PAUSE));
  lua_gc(L, LUA_GCSETSTEPMUL, get_number(L, table, STEPMUL));
  int runs = get_number(L, table, RUNNING);
  if (runs != lua_gc(L, LUA_GCISRUNNING, 0))
    lua_gc(L, runs ? LUA_GCRESTART : LUA_GCSTOP, 0);
  lua_rawgeti(L, table, COMPILES);
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | (lua_toboolean(L, -1) ? LUAJIT_MODE_ON : LUAJIT_MODE_OFF));
  lua_pop(L, 1);
  for (int type = LUA_TNIL; type <= LUA_TTHREAD; type++) {
    if (type == LUA_TTABLE || type == LUA_TUSERDATA)
      continue;
    push_example(L, type);
    lua_rawgeti(L, table, METATABLES + type);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
  }
  put_hook(L, script, table);
}

/* ── what C calls ── */

void script_park_hook(struct script *script) {
  lua_State *L = script->L;
  script->settings.parked = (struct script_hook){lua_gethookmask(L), lua_gethookcount(L)};
  if (script->settings.parked.mask == script->settings.hook_mask)
    return;
  script->settings.changed = true;
  lua_sethook(L, NULL, 0, 0);
}

static int note(lua_State *L) {
  struct script *script = lua_touserdata(L, 1);
  script->settings.parked = (struct script_hook){lua_gethookmask(L), lua_gethookcount(L)};
  script->settings.hook_mask = script->settings.parked.mask;
  lua_pushlightuserdata(L, (void *)&noted_key);
  push_settings(L, script);
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_pushlightuserdata(L, (void *)&kept_key);
  lua_newtable(L);
  lua_rawset(L, LUA_REGISTRYINDEX);
  return 0;
}

bool script_note_settings(struct script *script) {
  bool right = lua_cpcall(script->L, note, script) == 0;
  lua_settop(script->L, 0);
  script->settings.changed = script->settings.seeded = script->settings.optimized = false;
  return right;
}

bool script_settings_changed(const struct script *script) {
  return script->settings.changed;
}

struct restoring {
  struct script *script;
  uint32_t number;
  bool waits;
  struct buffer *changed, *lost;
};

static void name_changes(lua_State *L, int before, int now, struct buffer *changed) {
  const char *last = "";
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    lua_rawgeti(L, before, names[i].index);
    lua_rawgeti(L, now, names[i].index);
    if (!lua_rawequal(L, -1, -2) && strcmp(last, names[i].name) != 0)
      process_state_add_name(changed, last = names[i].name);
    lua_pop(L, 2);
  }
  for (int type = LUA_TNIL; type <= LUA_TTHREAD; type++) {
    lua_rawgeti(L, before, METATABLES + type);
    lua_rawgeti(L, now, METATABLES + type);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    if (same)
      continue;
    process_state_add_name(changed, "metatable of a basic type");
    break;
  }
}

static void seed_again(lua_State *L) {
  uint32_t seed;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
    seed = (uint32_t)clock_us();
  push_original(L, "randomseed");
  lua_pushnumber(L, seed);
  lua_call(L, 1, 0);
}

static int restore(lua_State *L) {
  const struct restoring *restoring = lua_touserdata(L, 1);
  struct script *script = restoring->script;
  enum { BEFORE = 2, NOW, KEPT };
  push_registry(L, &noted_key);
  push_settings(L, script);
  name_changes(L, BEFORE, NOW, restoring->changed);
  if (restoring->waits) {
    push_registry(L, &kept_key);
    lua_pushvalue(L, NOW);
    lua_rawseti(L, KEPT, (int)restoring->number + 1);
    lua_settop(L, NOW);
  }
  put_settings(L, script, BEFORE);
  if (!restoring->waits && script->settings.seeded) {
    process_state_add_name(restoring->changed, "random seed");
    seed_again(L);
    script->settings.seeded = false;
  }
  if (script->settings.optimized)
    process_state_add_name(restoring->lost, "options of the compiler");
  return 0;
}

void script_restore_settings(struct script *script, uint32_t number, bool waits, struct buffer *changed,
                             struct buffer *lost) {
  struct restoring restoring = {script, number, waits, changed, lost};
  if (lua_cpcall(script->L, restore, &restoring) != 0)
    process_state_add_name(lost, "settings of the Lua state");
  lua_settop(script->L, 0);
  script->settings.changed = false;
}

static int bring(lua_State *L) {
  const struct restoring *restoring = lua_touserdata(L, 1);
  enum { KEPT = 2, TABLE };
  push_registry(L, &kept_key);
  lua_rawgeti(L, KEPT, (int)restoring->number + 1);
  if (lua_istable(L, TABLE))
    put_settings(L, restoring->script, TABLE);
  lua_pushnil(L);
  lua_rawseti(L, KEPT, (int)restoring->number + 1);
  return 0;
}

void script_bring_settings(struct script *script, uint32_t number) {
  int mask = script->settings.hook_mask;
  (void)lua_cpcall(script->L, bring, &(struct restoring){.script = script, .number = number});
  lua_settop(script->L, 0);
  script->settings.hook_mask = mask;
  script->settings.changed = true; /* what it had changed is to be undone again */
}
