#include "many.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define IDS_TYPE "pgq.ids"

/* The ids so far. They grow while no Lua error may pass, hence outside of Lua's memory; the collector frees them. */
struct id_list {
  int64_t *ids;
  size_t count, capacity;
};

enum trouble { NONE, THREW, NO_STRING, NO_MEMORY };

/* One call. Nothing that a callback does here can throw: it stands between libpgq and the Lua code that called. */
struct many {
  lua_State *L;
  int source;  /* index of the list or function */
  int current; /* index of what the function gave last, which keeps it from being collected */
  int given;   /* elements asked for so far */
  enum trouble trouble;
  const char *type; /* of what is no string */
  struct id_list *list;
};

static void free_ids(struct id_list *list) {
  free(list->ids);
  *list = (struct id_list){0};
}

static int ids_collect(lua_State *L) {
  free_ids(luaL_checkudata(L, 1, IDS_TYPE));
  return 0;
}

void many_init(lua_State *L) {
  luaL_newmetatable(L, IDS_TYPE);
  lua_pushcfunction(L, ids_collect);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

static struct id_list *new_ids(lua_State *L) {
  struct id_list *list = lua_newuserdata(L, sizeof *list);
  *list = (struct id_list){0};
  luaL_setmetatable(L, IDS_TYPE);
  return list;
}

static int take_ids(void *context, const int64_t *ids, size_t count) {
  struct many *many = context;
  struct id_list *list = many->list;
  if (list->capacity - list->count < count) {
    size_t capacity = 2 * list->capacity + count;
    int64_t *more = realloc(list->ids, capacity * sizeof *more);
    if (more == NULL) {
      many->trouble = NO_MEMORY;
      return -1;
    }
    list->ids = more;
    list->capacity = capacity;
  }
  memcpy(list->ids + list->count, ids, count * sizeof *ids);
  list->count += count;
  return 0;
}

/* Pushes the next element, or what the function throws. Returns whether it has thrown. */
static bool push_next(struct many *many) {
  lua_State *L = many->L;
  many->given++;
  if (lua_type(L, many->source) == LUA_TTABLE) {
    lua_rawgeti(L, many->source, many->given);
    return false;
  }
  lua_pushvalue(L, many->source);
  return lua_pcall(L, 0, 1, 0) != 0;
}

static int next_job(void *context, struct pgq_job *job) {
  struct many *many = context;
  lua_State *L = many->L;
  if (push_next(many)) {
    many->trouble = THREW;
    return -1;
  }
  int type = lua_type(L, -1);
  if (type == LUA_TSTRING)
    job->data = lua_tolstring(L, -1, &job->length);
  lua_replace(L, many->current);
  if (type == LUA_TSTRING || type == LUA_TNIL)
    return type == LUA_TSTRING;
  many->trouble = NO_STRING;
  many->type = lua_typename(L, type);
  return -1;
}

static int push_ids(lua_State *L, struct id_list *list) {
  lua_createtable(L, (int)list->count, 0);
  for (size_t i = 0; i < list->count; i++) {
    lua_pushnumber(L, (lua_Number)list->ids[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  free_ids(list);
  return 1;
}

static int push_failure(lua_State *L, const struct many *many, const struct pgq_error *error) {
  switch (many->trouble) {
  case THREW:
    return lua_error(L); /* what was thrown is on top */
  case NO_MEMORY:
    return luaL_error(L, "not enough memory");
  case NO_STRING:
    lua_pushnil(L);
    lua_pushfstring(L, "job %d must be a string, not a %s; encode it first", many->given, many->type);
    return 2;
  default:
    lua_pushnil(L);
    lua_pushstring(L, error->message);
    lua_pushstring(L, error->sqlstate);
    return 3;
  }
}

int many_enqueue(lua_State *L, int source, PGconn *conn, const char *queue, const struct pgq_options *options,
                 bool *busy) {
  struct pgq_error error;
  luaL_checkstack(L, LUA_MINSTACK, "enqueue_many");
  struct many many = {.L = L, .source = source, .list = new_ids(L)};
  lua_pushnil(L);
  many.current = lua_gettop(L);
  *busy = true;
  int64_t count = pgq_enqueue_stream(conn, queue, next_job, take_ids, &many, options, &error);
  *busy = false;
  return count < 0 ? push_failure(L, &many, &error) : push_ids(L, many.list);
}
