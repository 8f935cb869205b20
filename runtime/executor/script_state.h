#ifndef PGQ_SCRIPT_STATE_H
#define PGQ_SCRIPT_STATE_H

#include "script.h"
#include "script_sources.h"

#include <lua.h>

/* The debug hook as lua_gethookmask() and lua_gethookcount() describe it. */
struct script_hook {
  int mask, count;
};

/* About script_settings.c. */
struct script_settings {
  bool changed;              /* a function was called that changes a setting */
  bool seeded, optimized;    /* so was math.randomseed, jit.opt.start */
  int hook_mask;             /* that of the script, after loading; 0: no hook */
  struct script_hook parked; /* the hook that the handler has left, and that is off now */
};

/*
 * For the files script*.c only. script.c has the Lua state, the loading of the user's file and its description.
 * script_host.c has the functions that Lua calls: require "pgq.host", and luv. script_run.c has the functions that C
 * calls: the tasks. script_settings.c undoes what a handler has set.
 */
struct script {
  lua_State *L;
  const struct script_config *config;
  uint32_t queue_count;
  int run; /* registry reference of host.run, which calls a handler */
  struct script_settings settings;
  struct script_sources sources;
  const void *wait;    /* address of host.wait, the table that a task yields when it waits */
  lua_State **threads; /* by task number: its coroutine, which the registry keeps alive; NULL: none */
  uint32_t thread_count;
};

/* script_make_host(L, script): creates the host table in the registry. script_push_host(L): pushes it. */
void script_make_host(lua_State *L, struct script *script);
void script_push_host(lua_State *L);

/* script_keep_run(L): creates in advance the values that the calls of script_run.c need, since memory may be short
 * later. */
void script_keep_run(lua_State *L);

/* script_watch_settings(L, script): replaces the functions of the standard library that change a setting. To be called
 * when the libraries are open. script_park_hook(script): switches a debug hook off that a handler has left. */
void script_watch_settings(lua_State *L, struct script *script);
void script_park_hook(struct script *script);

/* The loaders of require "pgq.host" and require "luv". */
int script_open_host(lua_State *L);
int script_open_luv(lua_State *L);

#endif
