#include "array_literal.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "builder.h"
#include "failure.h"
#include "value.h"

/* Postgres has no arrays of more dimensions. */
enum { DIMENSIONS_MAX = 6 };

/* A literal that is being written. Levels count from 0, which is the outermost list. */
struct array {
  const char *name; /* of the parameter */
  struct builder *text;
  const void *lists[DIMENSIONS_MAX]; /* by level, the list that is being written: finds a list that contains itself */
  int path[DIMENSIONS_MAX];          /* by level, the index of the element that is being written */
  int lengths[DIMENSIONS_MAX];       /* by level, the length that all lists on it must have; -1: not known yet */
  int deepest;                       /* the deepest level on which there are lists */
  int leaves;                        /* the level of the lists whose elements are values; -1: not known yet */
  enum value_kind kind;              /* VALUE_BYTEA, VALUE_JSON, or VALUE_STRING for others; VALUE_NULL: not known */
  struct pgq_error *error;
};

/* Sets an error about the element that is being written on the level; -1 means the whole parameter. Returns -1. */
static int fail(struct array *array, int level, const char *sqlstate, const char *problem) {
  char path[DIMENSIONS_MAX * 14 + 16] = "";
  size_t length = 0;
  if (level >= 0)
    length = (size_t)snprintf(path, sizeof path, ", element ");
  for (int i = 0; i <= level; i++)
    length += (size_t)snprintf(path + length, sizeof path - length, "[%d]", array->path[i]);
  failure_set(array->error, sqlstate, "%s%s %s", array->name, path, problem);
  return -1;
}

static void add(lua_State *L, struct array *array, const char *text) {
  builder_add(L, array->text, text, strlen(text));
}

/* ---- Values */

static void add_quoted(lua_State *L, struct array *array, const char *text, size_t length) {
  add(L, array, "\"");
  while (length > 0) {
    size_t plain = 0;
    while (plain < length && text[plain] != '"' && text[plain] != '\\')
      plain++;
    builder_add(L, array->text, text, plain);
    if (plain == length)
      break;
    add(L, array, "\\");
    builder_add(L, array->text, text + plain, 1);
    text += plain + 1;
    length -= plain + 1;
  }
  add(L, array, "\"");
}

static void add_hex(lua_State *L, struct array *array, const char *bytes, size_t length) {
  static const char digits[] = "0123456789abcdef";
  add(L, array, "\"\\\\x");
  for (size_t i = 0; i < length; i++) {
    const unsigned char byte = (unsigned char)bytes[i];
    const char pair[] = {digits[byte >> 4], digits[byte & 15]};
    builder_add(L, array->text, pair, sizeof pair);
  }
  add(L, array, "\"");
}

/* Adds the text on top of the stack, which is that of a value of the kind. */
static int add_text(lua_State *L, struct array *array, int level, enum value_kind kind) {
  size_t length;
  const char *text = lua_tolstring(L, -1, &length);
  if (kind == VALUE_BYTEA)
    add_hex(L, array, text, length);
  else if (strlen(text) != length)
    return fail(array, level, "22021", "holds a NUL byte; pass bytes as pgq.bytea(string)");
  else if (kind == VALUE_NUMBER || kind == VALUE_INTEGER)
    builder_add(L, array->text, text, length);
  else
    add_quoted(L, array, text, length);
  return 0;
}

/* A bytea or a json gives the array its type. The two do not mix, neither with each other nor with other values. */
static int check_mixture(struct array *array, int level, enum value_kind kind) {
  enum value_kind marked = kind == VALUE_BYTEA || kind == VALUE_JSON ? kind : VALUE_STRING;
  if (array->kind == VALUE_NULL)
    array->kind = marked;
  if (array->kind != marked)
    return fail(array, level, "", "differs from those before it: pgq.bytea and pgq.json do not mix with other values");
  return 0;
}

static int add_value(lua_State *L, struct array *array, int level, enum value_kind kind) {
  char problem[64];
  if (array->leaves < 0)
    array->leaves = level;
  if (array->leaves != level || array->deepest != level)
    return fail(array, level, "", "is a value where others are lists");
  if (kind == VALUE_NULL) {
    add(L, array, "NULL");
    return 0;
  }
  if (kind == VALUE_OTHER) {
    snprintf(problem, sizeof problem, "is a %s, which Postgres does not have", luaL_typename(L, -1));
    return fail(array, level, "", problem);
  }
  if (check_mixture(array, level, kind) != 0)
    return -1;
  if (kind == VALUE_BOOLEAN) {
    add(L, array, lua_toboolean(L, -1) ? "true" : "false");
    return 0;
  }
  value_push_text(L, lua_gettop(L), kind);
  int status = add_text(L, array, level, kind);
  lua_pop(L, 1);
  return status;
}

/* ---- Lists */

/* Checks the list on top of the stack, which is about to be written on the level, and sets *length. */
static int open_list(lua_State *L, struct array *array, int level, int *length) {
  char problem[256];
  const void *self = lua_topointer(L, -1);
  for (int i = 0; i < level && i < DIMENSIONS_MAX; i++)
    if (array->lists[i] == self)
      return fail(array, level - 1, "", "contains itself");
  if (level == DIMENSIONS_MAX)
    return fail(array, level - 1, "", "is a list in six others; Postgres has arrays of six dimensions at most");
  if (array->leaves >= 0 && array->leaves < level)
    return fail(array, level - 1, "", "is a list where others are values; pass a structure as pgq.json(value)");
  *length = value_list_length(L, lua_gettop(L), problem, sizeof problem);
  if (*length < 0)
    return fail(array, level - 1, "", problem);
  if (array->lengths[level] < 0)
    array->lengths[level] = *length;
  if (array->lengths[level] != *length) {
    snprintf(problem, sizeof problem, "has %d elements, but those before it %d: Postgres' arrays are rectangular",
             *length, array->lengths[level]);
    return fail(array, level - 1, "", problem);
  }
  array->lists[level] = self;
  if (array->deepest < level)
    array->deepest = level;
  return 0;
}

static int add_list(lua_State *L, struct array *array, int level) {
  int length = 0, status = open_list(L, array, level, &length);
  if (status == 0)
    add(L, array, "{");
  for (int i = 1; i <= length && status == 0; i++) {
    array->path[level] = i;
    if (i > 1)
      add(L, array, ",");
    lua_rawgeti(L, -1, i);
    enum value_kind kind = value_kind(L, lua_gettop(L));
    status = kind == VALUE_TABLE ? add_list(L, array, level + 1) : add_value(L, array, level, kind);
    lua_pop(L, 1);
  }
  if (status == 0)
    add(L, array, "}");
  return status;
}

int array_literal_push(lua_State *L, int index, const char *name, Oid *type, struct pgq_error *error) {
  struct array array = {.name = name, .deepest = 0, .leaves = -1, .kind = VALUE_NULL, .error = error};
  luaL_checkstack(L, 4 * DIMENSIONS_MAX, "too many parameters beside a list");
  for (int i = 0; i < DIMENSIONS_MAX; i++)
    array.lengths[i] = -1;
  array.text = builder_new(L);
  lua_pushvalue(L, index);
  if (add_list(L, &array, 0) != 0)
    return -1;
  lua_pop(L, 1);
  builder_push(L, array.text);
  lua_remove(L, -2);
  if (array.kind == VALUE_BYTEA || array.kind == VALUE_JSON)
    *type = array.kind == VALUE_BYTEA ? TYPE_BYTEA_ARRAY : TYPE_JSONB_ARRAY;
  return 0;
}
