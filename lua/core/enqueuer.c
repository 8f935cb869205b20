/*
 * Enqueueing many jobs for Lua: the steps of client/stream.h as methods of an object that belongs to a handle. The Lua
 * half calls them in order, sends BEGIN and COMMIT, and waits after each method that has sent something.
 */

#include "enqueuer.h"

#include <lauxlib.h>
#include <string.h>

#include "failure.h"
#include "handle.h"
#include "statement.h"
#include "stream.h"
#include "value.h"

#define ENQUEUER_TYPE "pgq.enqueuer"

struct enqueuer {
  struct handle *handle;
  struct stream stream;
};

static int enqueuer_gc(lua_State *L) {
  struct enqueuer *enqueuer = luaL_checkudata(L, 1, ENQUEUER_TYPE);
  stream_free(&enqueuer->stream);
  return 0;
}

/* Returns the enqueuer at stack index 1 if its connection is still open. Otherwise returns NULL, pushes the failure,
 * and sets *failed to the number of values pushed. */
static struct enqueuer *check(lua_State *L, int *failed) {
  struct enqueuer *enqueuer = luaL_checkudata(L, 1, ENQUEUER_TYPE);
  if (enqueuer->handle->conn != NULL)
    return enqueuer;
  *failed = handle_fail_closed(L, enqueuer->handle);
  return NULL;
}

/* handle:enqueuer(queue, after, delay_ms, waits) -> enqueuer; or nil, message, code. The last three arguments may be
 * nil. */
static int enqueuer_new(lua_State *L) {
  struct handle *handle = handle_check(L);
  struct pgq_options options = PGQ_OPTIONS_INIT;
  struct pgq_error error;
  const char *queue;
  lua_settop(L, 5);
  if (handle->conn == NULL)
    return handle_fail_closed(L, handle);
  if (statement_read_options(L, 2, &queue, &options, &error) != 0)
    return handle_push_failure(L, &error);
  struct enqueuer *enqueuer = lua_newuserdata(L, sizeof *enqueuer);
  *enqueuer = (struct enqueuer){.handle = handle};
  luaL_setmetatable(L, ENQUEUER_TYPE);
  /* The handle and the texts must live as long as the enqueuer. */
  lua_createtable(L, 3, 0);
  for (int i = 1; i <= 3; i++) {
    lua_pushvalue(L, i);
    lua_rawseti(L, -2, i);
  }
  lua_setfenv(L, -2);
  if (stream_init(&enqueuer->stream, handle->conn, queue, &options, &error) != 0)
    return handle_push_failure(L, &error);
  return 1;
}

/* ---- Filling */

/* enqueuer:add(data) -> true when the job was added, false when the batch is full; or nil, message, code. */
static int enqueuer_add(lua_State *L) {
  struct pgq_error error;
  size_t length;
  int failed = 0;
  struct enqueuer *enqueuer = check(L, &failed);
  const char *data = luaL_checklstring(L, 2, &length);
  if (enqueuer == NULL)
    return failed;
  int added = stream_add(&enqueuer->stream, data, length, &error);
  if (added < 0)
    return handle_push_failure(L, &error);
  lua_pushboolean(L, added);
  return 1;
}

/* enqueuer:add_list(list, from) -> the index of the first element that was not added, since the batch is full or the
 * element is not a string; or nil, message, code. */
static int enqueuer_add_list(lua_State *L) {
  struct pgq_error error;
  int failed = 0, i = (int)luaL_checkinteger(L, 3), added = 1;
  struct enqueuer *enqueuer = check(L, &failed);
  luaL_checktype(L, 2, LUA_TTABLE);
  if (enqueuer == NULL)
    return failed;
  for (; added == 1; i += added == 1) {
    size_t length;
    lua_rawgeti(L, 2, i);
    if (lua_type(L, -1) != LUA_TSTRING)
      break;
    const char *data = lua_tolstring(L, -1, &length);
    added = stream_add(&enqueuer->stream, data, length, &error);
    lua_pop(L, 1);
  }
  if (added < 0)
    return handle_push_failure(L, &error);
  lua_pushinteger(L, i);
  return 1;
}

/* enqueuer:count() -> the number of jobs in the batch. */
static int enqueuer_count(lua_State *L) {
  struct enqueuer *enqueuer = luaL_checkudata(L, 1, ENQUEUER_TYPE);
  lua_pushinteger(L, (lua_Integer)enqueuer->stream.count);
  return 1;
}

/* ---- The transaction */

/* enqueuer:owns_transaction() -> whether the caller must send BEGIN and COMMIT. */
static int enqueuer_owns_transaction(lua_State *L) {
  struct enqueuer *enqueuer = luaL_checkudata(L, 1, ENQUEUER_TYPE);
  lua_pushboolean(L, stream_owns_transaction(&enqueuer->stream));
  return 1;
}

/* enqueuer:undo() -> the statement that undoes the call, to be sent when no other statement runs; or nil. */
static int enqueuer_undo(lua_State *L) {
  struct enqueuer *enqueuer = luaL_checkudata(L, 1, ENQUEUER_TYPE);
  lua_pushstring(L, enqueuer->handle->conn != NULL ? stream_undo(&enqueuer->stream) : NULL);
  return 1;
}

/* enqueuer:explain_commit(message, code) -> message, code for the caller when the COMMIT failed with these. */
static int enqueuer_explain_commit(lua_State *L) {
  struct pgq_error error;
  int failed = 0;
  struct enqueuer *enqueuer = check(L, &failed);
  failure_set(&error, luaL_checkstring(L, 3), "%s", luaL_checkstring(L, 2));
  if (enqueuer != NULL)
    stream_explain_commit(&enqueuer->stream, &error);
  lua_pushstring(L, error.message);
  lua_pushstring(L, error.sqlstate);
  return 2;
}

/* enqueuer:send_moment() -> whether a statement was sent, which asks for the earliest time to run; or nil, message,
 * code.
 */
static int enqueuer_send_moment(lua_State *L) {
  struct pgq_error error;
  int failed = 0;
  struct enqueuer *enqueuer = check(L, &failed);
  if (enqueuer == NULL)
    return failed;
  int sent = stream_send_moment(&enqueuer->stream, &error);
  if (sent < 0)
    return handle_push_failure(L, &error);
  lua_pushboolean(L, sent);
  return 1;
}

/* enqueuer:take_moment() -> true; or nil, message, code. */
static int enqueuer_take_moment(lua_State *L) {
  struct pgq_error error;
  int failed = 0;
  struct enqueuer *enqueuer = check(L, &failed);
  if (enqueuer == NULL)
    return failed;
  int status = stream_take_moment(&enqueuer->stream, enqueuer->handle->answer.result, &error);
  results_clear(&enqueuer->handle->answer);
  if (status != 0)
    return handle_push_failure(L, &error);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- Batches */

/* enqueuer:send() -> true when the batch was sent; or nil, message, code. */
static int enqueuer_send(lua_State *L) {
  struct pgq_error error;
  int failed = 0;
  struct enqueuer *enqueuer = check(L, &failed);
  if (enqueuer == NULL)
    return failed;
  if (stream_send(&enqueuer->stream, &error) != 0)
    return handle_push_failure(L, &error);
  lua_pushboolean(L, 1);
  return 1;
}

/* enqueuer:take(ids) -> true, and appends the ids of the batch to the list; or nil, message, code. */
static int enqueuer_take(lua_State *L) {
  struct pgq_error error;
  int failed = 0;
  struct enqueuer *enqueuer = check(L, &failed);
  luaL_checktype(L, 2, LUA_TTABLE);
  if (enqueuer == NULL)
    return failed;
  struct stream *stream = &enqueuer->stream;
  int status = stream_take(stream, enqueuer->handle->answer.result, &error);
  results_clear(&enqueuer->handle->answer);
  if (status != 0)
    return handle_push_failure(L, &error);
  int length = (int)lua_objlen(L, 2);
  for (size_t i = 0; i < stream->id_count; i++) {
    value_push_integer(L, stream->ids[i]);
    lua_rawseti(L, 2, length + 1 + (int)i);
  }
  lua_pushboolean(L, 1);
  return 1;
}

void enqueuer_init(lua_State *L) {
  static const luaL_Reg handle_methods[] = {{"enqueuer", enqueuer_new}, {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"add", enqueuer_add},
      {"add_list", enqueuer_add_list},
      {"count", enqueuer_count},
      {"explain_commit", enqueuer_explain_commit},
      {"owns_transaction", enqueuer_owns_transaction},
      {"send", enqueuer_send},
      {"send_moment", enqueuer_send_moment},
      {"take", enqueuer_take},
      {"take_moment", enqueuer_take_moment},
      {"undo", enqueuer_undo},
      {NULL, NULL},
  };
  luaL_newmetatable(L, ENQUEUER_TYPE);
  lua_pushcfunction(L, enqueuer_gc);
  lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  handle_add_methods(L, handle_methods);
}
