#include "builder.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define BUILDER_TYPE "pgq.builder"

static void clear(struct builder *builder) {
  free(builder->text);
  *builder = (struct builder){0};
}

static int builder_gc(lua_State *L) {
  clear(luaL_checkudata(L, 1, BUILDER_TYPE));
  return 0;
}

void builder_init(lua_State *L) {
  luaL_newmetatable(L, BUILDER_TYPE);
  lua_pushcfunction(L, builder_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

struct builder *builder_new(lua_State *L) {
  struct builder *builder = lua_newuserdata(L, sizeof *builder);
  *builder = (struct builder){0};
  luaL_setmetatable(L, BUILDER_TYPE);
  return builder;
}

void builder_add(lua_State *L, struct builder *builder, const char *bytes, size_t length) {
  if (builder->capacity - builder->length < length) {
    size_t capacity = 2 * builder->capacity + length + 64;
    char *text = realloc(builder->text, capacity);
    if (text == NULL)
      luaL_error(L, "not enough memory");
    builder->text = text;
    builder->capacity = capacity;
  }
  if (length > 0)
    memcpy(builder->text + builder->length, bytes, length);
  builder->length += length;
}

void builder_push(lua_State *L, struct builder *builder) {
  lua_pushlstring(L, builder->text != NULL ? builder->text : "", builder->length);
  clear(builder);
}
