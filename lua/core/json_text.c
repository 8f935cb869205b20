#include "json_text.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "text.h"
#include "value.h"

#define TREE_TYPE "pgq.json.tree"

/* Deeper nesting is a mistake rather than data; and both this code and the server recurse. */
enum { DEPTH_MAX = 200 };

/* A userdata, so that the garbage collector frees both when a Lua error is raised. */
struct tree {
  cJSON *root;
  char *text;
};

/* A value that is being converted. */
struct json {
  struct tree *tree;
  const void *tables[DEPTH_MAX]; /* the tables around the current value: finds a table that contains itself */
  char path[160];                /* of the current value, such as .items[3] */
  size_t path_length;
  char *problem;
  size_t size;
};

static void clear(struct tree *tree) {
  cJSON_Delete(tree->root);
  cJSON_free(tree->text);
  *tree = (struct tree){0};
}

static int tree_gc(lua_State *L) {
  clear(lua_touserdata(L, 1));
  return 0;
}

static struct tree *new_tree(lua_State *L) {
  struct tree *tree = lua_newuserdata(L, sizeof *tree);
  *tree = (struct tree){0};
  if (luaL_newmetatable(L, TREE_TYPE)) {
    lua_pushcfunction(L, tree_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return tree;
}

static int fail(const struct json *json, const char *problem) {
  snprintf(json->problem, json->size, "value%s %s", json->path, problem);
  return -1;
}

/* Frees the tree at once: the garbage collector takes it for a few bytes, and may come late. */
static int fail_memory(lua_State *L, struct tree *tree) {
  clear(tree);
  return luaL_error(L, "not enough memory");
}

/* Makes `item` a part of the tree, which owns it from here on: the root when `parent` is NULL, else the value of `key`
 * in an object, else, when `key` is NULL, the last element of an array. A NULL item means that memory ran out. */
static cJSON *attach(lua_State *L, struct json *json, cJSON *parent, const char *key, cJSON *item) {
  bool attached = item != NULL;
  if (attached && parent == NULL)
    json->tree->root = item;
  else if (attached)
    attached = key != NULL ? cJSON_AddItemToObject(parent, key, item) : cJSON_AddItemToArray(parent, item);
  if (!attached) {
    cJSON_Delete(item);
    fail_memory(L, json->tree);
  }
  return item;
}

/* ---- Scalars */

static int check_text(const struct json *json, const char *text, size_t length, const char *what) {
  char problem[64];
  if (text_is_utf8(text, length))
    return 0;
  snprintf(problem, sizeof problem, "%s %s", what,
           memchr(text, '\0', length) != NULL ? "holds a NUL, which jsonb cannot" : "is not UTF-8");
  return fail(json, problem);
}

static int add_string(lua_State *L, struct json *json, int index, cJSON *parent, const char *key) {
  size_t length;
  const char *text = lua_tolstring(L, index, &length);
  if (check_text(json, text, length, "is a text that") != 0)
    return -1;
  attach(L, json, parent, key, cJSON_CreateString(text));
  return 0;
}

static int add_number(lua_State *L, struct json *json, int index, cJSON *parent, const char *key) {
  double number = lua_tonumber(L, index);
  if (isnan(number) || isinf(number))
    return fail(json, isnan(number) ? "is not a number (NaN), which JSON does not have"
                                    : "is infinite, which JSON does not have");
  value_push_text(L, index, VALUE_NUMBER);
  attach(L, json, parent, key, cJSON_CreateRaw(lua_tostring(L, -1)));
  lua_pop(L, 1);
  return 0;
}

static int add_raw(lua_State *L, struct json *json, int index, enum value_kind kind, cJSON *parent, const char *key) {
  value_push_text(L, index, kind);
  attach(L, json, parent, key, cJSON_CreateRaw(lua_tostring(L, -1)));
  lua_pop(L, 1);
  return 0;
}

/* ---- Tables */

static int add_value(lua_State *L, struct json *json, int index, cJSON *parent, const char *key, int depth);

/* Adds the value on top of the stack to the current table, and removes it from the stack. `step` is what it adds to the
 * path. */
static int add_element(lua_State *L, struct json *json, cJSON *parent, const char *key, const char *step, int depth) {
  const size_t length = json->path_length;
  snprintf(json->path + length, sizeof json->path - length, "%s", step);
  json->path_length = strlen(json->path);
  int status = add_value(L, json, lua_gettop(L), parent, key, depth);
  json->path_length = length;
  json->path[length] = '\0';
  lua_pop(L, 1);
  return status;
}

static int add_list(lua_State *L, struct json *json, int index, int length, cJSON *array, int depth) {
  char step[24];
  int status = 0;
  for (int i = 1; i <= length && status == 0; i++) {
    snprintf(step, sizeof step, "[%d]", i);
    lua_rawgeti(L, index, i);
    status = add_element(L, json, array, NULL, step, depth);
  }
  return status;
}

/* Pushes the text of the key at `index`. Fails for a key that is neither a string nor a number. */
static int push_key(lua_State *L, struct json *json, int index, int table) {
  size_t length;
  if (lua_type(L, index) == LUA_TSTRING) {
    const char *text = lua_tolstring(L, index, &length);
    lua_pushvalue(L, index);
    return check_text(json, text, length, "has a key that");
  }
  if (lua_type(L, index) != LUA_TNUMBER)
    return fail(json, "has a key that is neither a string nor a number");
  value_push_text(L, index, VALUE_NUMBER);
  lua_pushvalue(L, -1);
  lua_rawget(L, table);
  bool twice = !lua_isnil(L, -1);
  lua_pop(L, 1);
  return twice ? fail(json, "has a number and a text as keys that are the same in JSON") : 0;
}

static int add_object(lua_State *L, struct json *json, int index, cJSON *object, int depth) {
  char step[64];
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    int value = lua_gettop(L);
    if (push_key(L, json, value - 1, index) != 0)
      return -1;
    snprintf(step, sizeof step, ".%.40s", lua_tostring(L, -1));
    lua_pushvalue(L, value);
    if (add_element(L, json, object, lua_tostring(L, -2), step, depth) != 0)
      return -1;
    lua_pop(L, 1);
  }
  return 0;
}

static int add_table(lua_State *L, struct json *json, int index, cJSON *parent, const char *key, int depth) {
  char problem[64];
  const void *self = lua_topointer(L, index);
  for (int i = 0; i < depth; i++)
    if (json->tables[i] == self)
      return fail(json, "is a table that contains itself");
  if (depth == DEPTH_MAX) {
    snprintf(problem, sizeof problem, "is nested in %d tables, which is too deep", DEPTH_MAX);
    return fail(json, problem);
  }
  json->tables[depth] = self;
  luaL_checkstack(L, 16, "nested too deep");
  int length = value_list_length(L, index, problem, sizeof problem);
  if (length > 0)
    return add_list(L, json, index, length, attach(L, json, parent, key, cJSON_CreateArray()), depth + 1);
  return add_object(L, json, index, attach(L, json, parent, key, cJSON_CreateObject()), depth + 1);
}

static int add_value(lua_State *L, struct json *json, int index, cJSON *parent, const char *key, int depth) {
  char problem[64];
  enum value_kind kind = value_kind(L, index);
  switch (kind) {
  case VALUE_NULL:
    attach(L, json, parent, key, cJSON_CreateNull());
    return 0;
  case VALUE_BOOLEAN:
    attach(L, json, parent, key, cJSON_CreateBool(lua_toboolean(L, index)));
    return 0;
  case VALUE_NUMBER:
    return add_number(L, json, index, parent, key);
  case VALUE_STRING:
    return add_string(L, json, index, parent, key);
  case VALUE_INTEGER:
  case VALUE_JSON:
    return add_raw(L, json, index, kind, parent, key);
  case VALUE_TABLE:
    return add_table(L, json, index, parent, key, depth);
  default:
    snprintf(problem, sizeof problem, "is a %s, which JSON does not have",
             kind == VALUE_BYTEA ? "pgq.bytea" : luaL_typename(L, index));
    return fail(json, problem);
  }
}

/* Pushes the JSON text of the value at `index`. Returns 0; or -1, and writes to `problem` what is wrong. */
static int push_json(lua_State *L, int index, char *problem, size_t size) {
  struct json json = {.tree = new_tree(L), .problem = problem, .size = size};
  int top = lua_gettop(L);
  if (add_value(L, &json, index, NULL, NULL, 0) != 0) {
    lua_settop(L, top);
    clear(json.tree);
    lua_pop(L, 1);
    return -1;
  }
  json.tree->text = cJSON_PrintUnformatted(json.tree->root);
  if (json.tree->text == NULL)
    return fail_memory(L, json.tree);
  lua_pushstring(L, json.tree->text);
  clear(json.tree);
  lua_remove(L, -2);
  return 0;
}

int json_text_mark(lua_State *L) {
  char problem[512], message[512];
  lua_settop(L, 1);
  if (push_json(L, 1, problem, sizeof problem) == 0) {
    value_mark(L, VALUE_JSON);
    return 1;
  }
  text_clean(message, sizeof message, problem, strlen(problem)); /* a path may have been cut inside of a character */
  lua_pushnil(L);
  lua_pushstring(L, message);
  return 2;
}
