/* The functions that C calls: they begin, resume and interrupt tasks. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "script_state.h"

/* After a job with this much data the garbage is collected at once. */
enum { LARGE_DATA = 1 << 20 };

/* The address of this variable is the registry key of the table of coroutines, by task number. */
static const char threads_key;

/* The argument of run(), which is called in protected mode. */
struct call {
  struct script *script;
  uint32_t number;
  const struct message_job *job; /* NULL: the task continues */
  bool preserve;
  int64_t timeout_ms;
};

/* ── coroutines ── */

static void push_threads(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&threads_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (!lua_isnil(L, -1))
    return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushlightuserdata(L, (void *)&threads_key);
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

static void make_room(struct script *script, uint32_t number) {
  if (number < script->thread_count)
    return;
  uint32_t count = number < 8 ? 16 : 2 * number;
  script->threads = memory_resize(script->threads, count * sizeof *script->threads);
  memset(script->threads + script->thread_count, 0, (count - script->thread_count) * sizeof *script->threads);
  script->thread_count = count;
}

/* Returns the coroutine for that number: the coroutine of the last task if it can be used again, otherwise a new
 * one. */
static lua_State *take_thread(lua_State *L, struct script *script, uint32_t number) {
  make_room(script, number);
  if (script->threads[number])
    return script->threads[number];
  push_threads(L);
  lua_State *thread = lua_newthread(L);
  lua_rawseti(L, -2, (int)number + 1);
  lua_pop(L, 1);
  script->threads[number] = thread;
  return thread;
}

static void drop_thread(lua_State *L, struct script *script, uint32_t number) {
  push_threads(L);
  lua_pushnil(L);
  lua_rawseti(L, -2, (int)number + 1);
  lua_pop(L, 1);
  script->threads[number] = NULL;
}

/* ── running ── */

/* Pushes a number if a double represents the id exactly, otherwise a text. */
static void push_id(lua_State *L, int64_t id) {
  char text[24];
  if (id >= -(INT64_C(1) << 53) && id <= INT64_C(1) << 53) {
    lua_pushnumber(L, (lua_Number)id);
    return;
  }
  snprintf(text, sizeof text, "%lld", (long long)id);
  lua_pushstring(L, text);
}

static void push_token(lua_State *L, int64_t token) {
  char text[24];
  snprintf(text, sizeof text, "%lld", (long long)token);
  lua_pushstring(L, text);
}

/* Pushes a table about a transactional job: lease, the token as digits; preserve; and timeout_ms. */
static void push_settling(lua_State *L, const struct call *call) {
  lua_createtable(L, 0, 3);
  push_token(L, call->job->lease);
  lua_setfield(L, -2, "lease");
  lua_pushboolean(L, call->preserve);
  lua_setfield(L, -2, "preserve");
  lua_pushnumber(L, (lua_Number)call->timeout_ms);
  lua_setfield(L, -2, "timeout_ms");
}

/* Pushes host.run and its arguments: the number of the queue, from 1; data, id, attempt, created_at, run_after and
 * retries_left; for a transactional job also a table. Returns the number of arguments. */
static int push_run(lua_State *thread, const struct call *call) {
  const struct message_job *job = call->job;
  int before = lua_gettop(thread);
  lua_rawgeti(thread, LUA_REGISTRYINDEX, call->script->run);
  lua_pushinteger(thread, (lua_Integer)job->queue + 1);
  lua_pushlstring(thread, job->data, job->data_length);
  push_id(thread, job->id);
  lua_pushinteger(thread, (lua_Integer)job->attempt);
  lua_pushnumber(thread, job->created_at);
  lua_pushnumber(thread, job->run_after);
  lua_pushinteger(thread, (lua_Integer)job->retries_left);
  if (job->settles)
    push_settling(thread, call);
  return lua_gettop(thread) - before - 1;
}

/* A task waits if it has yielded host.wait, a table that scripts cannot reach. */
static bool has_waited(lua_State *thread, const struct script *script) {
  return lua_gettop(thread) == 1 && lua_topointer(thread, 1) == script->wait;
}

/* Called in protected mode with a struct call. Returns the results of host.run(); nothing if the task waits; or false
 * and a message. */
static int run(lua_State *L) {
  const struct call *call = lua_touserdata(L, 1);
  lua_State *thread = take_thread(L, call->script, call->number);
  int result = lua_resume(thread, call->job ? push_run(thread, call) : 0);
  int count = lua_gettop(thread);
  if (result == LUA_YIELD && has_waited(thread, call->script)) {
    lua_settop(thread, 0);
    return 0;
  }
  if (result == 0) {
    lua_xmove(thread, L, count);
    return count;
  }
  lua_pushboolean(L, 0);
  if (result == LUA_YIELD)
    lua_pushliteral(L, "the handler yielded, and nothing resumes it: coroutine.yield is for coroutines of your own");
  else
    lua_xmove(thread, L, 1);
  drop_thread(L, call->script, call->number);
  return 2;
}

enum { OK = 1, MESSAGE, HOW, WAIT, TRACEBACK, RESULTS = TRACEBACK };

/* Whether the handler failed for lack of memory. Garbage is then collected, so that there is memory to report the
 * error. */
static bool is_of_memory(const struct job_outcome *end) {
  static const char message[] = "not enough memory";
  return end->error && memmem(end->error, end->error_length, message, sizeof message - 1) != NULL;
}

/* Reads from the results of host.run() how the handler failed. */
static void read_failure(lua_State *L, struct job_outcome *end) {
  const char *how = lua_type(L, HOW) == LUA_TSTRING ? lua_tostring(L, HOW) : "";
  end->outcome = strcmp(how, "snooze") == 0 ? OUTCOME_SNOOZE : OUTCOME_FAIL;
  end->backoff = strcmp(how, "backoff") == 0;
  end->discard = strcmp(how, "discard") == 0;
  end->wait_ms = lua_type(L, WAIT) == LUA_TNUMBER ? (int64_t)lua_tonumber(L, WAIT) : -1;
  end->error = lua_tolstring(L, MESSAGE, &end->error_length);
  end->traceback = lua_tolstring(L, TRACEBACK, &end->traceback_length);
}

/* The address of this variable is the key of run() in the registry. Pushing a C function needs memory, which may be
 * short. */
static const char run_key;

void script_keep_run(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&run_key);
  lua_pushcfunction(L, run);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

static void call(const struct call *call, struct job_outcome *end) {
  lua_State *L = call->script->L;
  *end = (struct job_outcome){.outcome = OUTCOME_COMPLETE, .wait_ms = -1};
  lua_settop(L, 0);
  lua_pushlightuserdata(L, (void *)&run_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  lua_pushlightuserdata(L, (void *)call);
  int failed = lua_pcall(L, 1, LUA_MULTRET, 0);
  script_park_hook(call->script);
  if (failed != 0) {                               /* no memory */
    if (call->number < call->script->thread_count) /* the coroutine may be in any state */
      call->script->threads[call->number] = NULL;
    end->outcome = OUTCOME_FAIL;
    end->error = lua_tolstring(L, 1, &end->error_length);
    if (is_of_memory(end))
      script_collect(call->script);
    return;
  }
  if (lua_gettop(L) == 0) {
    end->outcome = OUTCOME_NONE;
    return;
  }
  bool completed = lua_toboolean(L, OK);
  lua_settop(L, RESULTS);
  if (!completed) {
    read_failure(L, end);
    if (is_of_memory(end))
      script_collect(call->script);
  } else if (lua_type(L, MESSAGE) == LUA_TSTRING) /* "settled" */
    end->outcome = OUTCOME_SETTLED;
}

void script_begin(struct script *script, uint32_t number, const struct message_job *job, bool preserve,
                  int64_t timeout_ms, struct job_outcome *end) {
  call(&(struct call){.script = script, .number = number, .job = job, .preserve = preserve, .timeout_ms = timeout_ms},
       end);
  if (job->data_length >= LARGE_DATA)
    script_collect(script);
}

void script_resume(struct script *script, uint32_t number, struct job_outcome *end) {
  call(&(struct call){.script = script, .number = number}, end);
}

/* ── calls of host functions ── */

struct telling {
  const char *function;
  uint32_t number;
  const char *name; /* NULL: the number is the only argument */
  bool final;
};

static int tell(lua_State *L) {
  const struct telling *telling = lua_touserdata(L, 1);
  script_push_host(L);
  lua_getfield(L, -1, telling->function);
  lua_pushinteger(L, (lua_Integer)telling->number);
  if (!telling->name) {
    lua_call(L, 1, 0);
    return 0;
  }
  lua_pushstring(L, telling->name);
  lua_pushboolean(L, telling->final);
  lua_call(L, 3, 0);
  return 0;
}

/* Calls the function in protected mode. An error is logged. */
static void call_logged(struct script *script, lua_CFunction function, void *argument) {
  lua_State *L = script->L;
  int top = lua_gettop(L);
  if (lua_cpcall(L, function, argument) != 0) {
    size_t length;
    const char *text = lua_tolstring(L, -1, &length);
    if (text)
      script->config->log(script->config->owner, LOG_ERROR, text, length);
  }
  lua_settop(L, top);
}

static void say(struct script *script, const struct telling *telling) {
  call_logged(script, tell, (void *)telling);
}

void script_interrupt(struct script *script, uint32_t number, enum script_interrupt why, bool final) {
  say(script, &(struct telling){.function = "interrupt",
                                .number = number,
                                .name = why == SCRIPT_TIMEOUT ? "timeout" : "cancelled",
                                .final = final});
}

void script_ended(struct script *script, uint32_t number) {
  say(script, &(struct telling){.function = "ended", .number = number});
}

struct serve_setting {
  uint32_t pool;
  bool prepare;
  const char *version;
};

static int serve(lua_State *L) {
  script_push_host(L);
  const struct serve_setting *setting = lua_touserdata(L, 1);
  lua_pushnumber(L, setting->pool);
  lua_setfield(L, -2, "pool");
  lua_pushboolean(L, setting->prepare);
  lua_setfield(L, -2, "prepare");
  if (*setting->version)
    lua_pushstring(L, setting->version);
  else
    lua_pushnil(L);
  lua_setfield(L, -2, "version");
  return 0;
}

void script_serve(struct script *script, uint32_t pool, bool prepare, const char *version) {
  struct serve_setting setting = {.pool = pool, .prepare = prepare, .version = version};
  (void)lua_cpcall(script->L, serve, &setting); /* if memory is short, the defaults stay */
  lua_settop(script->L, 0);
}

/* Called in protected mode: finalizers of the script may raise errors. */
static int collect(lua_State *L) {
  lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}

void script_collect(struct script *script) {
  call_logged(script, collect, NULL);
}
