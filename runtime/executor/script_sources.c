#include "script_sources.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "memory.h"
#include "protocol.h"

/* The registry keys of the loadfile of the standard library, and of package.searchpath. */
static const char loadfile_key, searchpath_key;

/* ── what was read ── */

static const struct message_source *find(const struct message_sources *list, const char *module, const char *path) {
  for (uint32_t i = 0; i < list->count; i++)
    if (strcmp(list->items[i].module, module) == 0 && (!path || strcmp(list->items[i].path, path) == 0))
      return &list->items[i];
  return NULL;
}

/* Keeps a file that was read; takes over the bytes. */
static void keep(struct script_sources *sources, const char *module, const char *path, struct buffer *bytes) {
  struct message_sources *read = &sources->read;
  read->items = memory_resize(read->items, (read->count + 1) * sizeof *read->items);
  read->items[read->count++] = (struct message_source){.module = memory_text(module),
                                                       .path = memory_text(path),
                                                       .bytes = (const char *)bytes->bytes,
                                                       .length = bytes->length};
  sources->bytes += bytes->length;
  *bytes = (struct buffer){0};
}

void script_sources_free(struct script_sources *sources) {
  for (uint32_t i = 0; i < sources->read.count; i++) {
    free(sources->read.items[i].module);
    free(sources->read.items[i].path);
    free((char *)sources->read.items[i].bytes);
  }
  free(sources->read.items);
  sources->read = (struct message_sources){0};
}

/* ── reading ── */

/* Returns whether the whole file could be read. */
static bool read_file(const char *path, struct buffer *bytes) {
  enum { PIECE = 64 * 1024 };
  FILE *file = fopen(path, "rbe");
  size_t length = 1;
  while (file && length > 0) {
    length = fread(buffer_space(bytes, PIECE), 1, PIECE, file);
    bytes->length += length;
  }
  bool good = file && !ferror(file);
  if (file)
    fclose(file);
  return good;
}

/* Pushes a function, or a message, as luaL_loadbuffer() does. */
static int load_bytes(lua_State *L, const char *path, const char *bytes, size_t length, const char *mode) {
  lua_pushfstring(L, "@%s", path);
  int status = luaL_loadbufferx(L, length > 0 ? bytes : "", length, lua_tostring(L, -1), mode);
  lua_remove(L, -2);
  return status;
}

/* Loads a file, from the bytes that were given if they are there, and keeps what it reads while the script loads.
 * Returns LUA_ERRFILE, and pushes nothing, if the file cannot be read. */
static int load(lua_State *L, struct script_sources *sources, const char *module, const char *path, const char *mode) {
  const struct message_source *given = *module || sources->loading ? find(sources->given, module, path) : NULL;
  if (given)
    return load_bytes(L, path, given->bytes, given->length, mode);
  struct buffer bytes = {0};
  if (!read_file(path, &bytes)) {
    buffer_free(&bytes);
    return LUA_ERRFILE;
  }
  int status = load_bytes(L, path, (const char *)bytes.bytes, bytes.length, mode);
  if (sources->loading && sources->bytes + bytes.length <= SOURCES_MOST)
    keep(sources, module, path, &bytes);
  else
    sources->bytes += sources->loading ? bytes.length : 0;
  buffer_free(&bytes);
  return status;
}

int script_sources_load(lua_State *L, struct script_sources *sources, const char *path) {
  int status = load(L, sources, "", path, NULL);
  return status == LUA_ERRFILE ? luaL_loadfile(L, path) : status; /* for its message */
}

/* ── what Lua calls; the first upvalue is the struct ── */

/* The loader of Lua modules, as require calls it: returns a function, or why there is none. */
static int load_module(lua_State *L) {
  struct script_sources *sources = lua_touserdata(L, lua_upvalueindex(1));
  const char *name = luaL_checkstring(L, 1);
  const struct message_source *given = *name ? find(sources->given, name, NULL) : NULL;
  const char *path = given ? given->path : NULL;
  if (!path) {
    lua_pushlightuserdata(L, (void *)&searchpath_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, 1);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_remove(L, -2);
    if (!lua_isstring(L, -1))
      return luaL_error(L, "'package.path' must be a string");
    lua_call(L, 2, 2);
    if (lua_isnil(L, -2))
      return 1; /* the names that were tried */
    lua_pop(L, 1);
    path = lua_tostring(L, -1);
  }
  int status = load(L, sources, name, path, NULL);
  if (status == LUA_ERRFILE)
    status = luaL_loadfile(L, path);
  if (status != 0)
    return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", name, path, lua_tostring(L, -1));
  return 1;
}

/* loadfile(filename [, mode [, env]]) */
static int load_file(lua_State *L) {
  struct script_sources *sources = lua_touserdata(L, lua_upvalueindex(1));
  bool has_environment = lua_istable(L, 3); /* as the standard library: anything else is none */
  int status = LUA_ERRFILE;
  if (lua_type(L, 1) == LUA_TSTRING)
    status = load(L, sources, "", lua_tostring(L, 1), luaL_optstring(L, 2, NULL));
  if (status == LUA_ERRFILE) { /* standard input, and files that cannot be read */
    int count = lua_gettop(L);
    lua_pushlightuserdata(L, (void *)&loadfile_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_insert(L, 1);
    lua_call(L, count, LUA_MULTRET);
    return lua_gettop(L);
  }
  if (status != 0) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  if (has_environment) {
    lua_pushvalue(L, 3);
    lua_setfenv(L, -2);
  }
  return 1;
}

/* dofile([filename]) */
static int do_file(lua_State *L) {
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_pushvalue(L, 1);
  lua_call(L, 1, 2);
  if (lua_isnil(L, -2))
    return lua_error(L);
  lua_pop(L, 1);
  lua_call(L, 0, LUA_MULTRET);
  return lua_gettop(L) - 1;
}

void script_sources_watch(lua_State *L, struct script_sources *sources) {
  enum { LUA_LOADER = 2 }; /* in package.loaders, before others are added */
  lua_pushlightuserdata(L, (void *)&loadfile_key);
  lua_getglobal(L, "loadfile");
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_pushlightuserdata(L, sources);
  lua_pushcclosure(L, load_file, 1);
  lua_pushvalue(L, -1);
  lua_setglobal(L, "loadfile");
  lua_pushlightuserdata(L, sources);
  lua_insert(L, -2);
  lua_pushcclosure(L, do_file, 2);
  lua_setglobal(L, "dofile");
  lua_getglobal(L, "package");
  lua_pushlightuserdata(L, (void *)&searchpath_key);
  lua_getfield(L, -2, "searchpath");
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_getfield(L, -1, "loaders");
  lua_pushlightuserdata(L, sources);
  lua_pushcclosure(L, load_module, 1);
  lua_rawseti(L, -2, LUA_LOADER);
  lua_pop(L, 2);
}
