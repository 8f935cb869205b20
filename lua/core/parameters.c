#include "parameters.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "array_literal.h"
#include "failure.h"
#include "value.h"

/* The protocol counts the parameters of a statement in 16 bits. */
enum { PARAMETERS_MAX = 65535 };

/* Replaces the value at `index` by its text, and sets *type if the value determines it. Returns 0, or -1 with an error.
 */
static int make_text(lua_State *L, int index, enum value_kind kind, const char *name, Oid *type,
                     struct pgq_error *error) {
  switch (kind) {
  case VALUE_NUMBER:
  case VALUE_INTEGER:
  case VALUE_STRING:
    value_push_text(L, index, kind);
    break;
  case VALUE_BYTEA:
  case VALUE_JSON:
    value_push_text(L, index, kind);
    *type = kind == VALUE_BYTEA ? TYPE_BYTEA : TYPE_JSONB;
    break;
  case VALUE_TABLE:
    if (array_literal_push(L, index, name, type, error) != 0)
      return -1;
    break;
  default:
    failure_set(error, "",
                "%s is a %s; give nil, pgq.null, a boolean, a number, a string, a list, pgq.bytea(string) or "
                "pgq.json(value)",
                name, luaL_typename(L, index));
    return -1;
  }
  lua_replace(L, index);
  return 0;
}

/* Makes the value at `index` parameter `i`. Its text replaces it on the stack, which keeps the text alive. */
static int read_parameter(lua_State *L, int index, struct parameters *parameters, int i, struct pgq_error *error) {
  char name[32];
  size_t length;
  enum value_kind kind = value_kind(L, index);
  snprintf(name, sizeof name, "parameter %d", i + 1);
  if (kind == VALUE_NULL)
    return 0;
  if (kind == VALUE_BOOLEAN) {
    parameters->types[i] = TYPE_BOOL;
    parameters->values[i] = lua_toboolean(L, index) ? "true" : "false";
    return 0;
  }
  if (make_text(L, index, kind, name, &parameters->types[i], error) != 0)
    return -1;
  parameters->formats[i] = kind == VALUE_BYTEA;
  parameters->values[i] = lua_tolstring(L, index, &length);
  parameters->lengths[i] = (int)length;
  parameters->bytes += length;
  if (length >= (size_t)1 << 30) {
    failure_set(error, "54000", "%s has %zu bytes; Postgres takes less than 1 GiB", name, length);
    return -1;
  }
  if (kind != VALUE_BYTEA && strlen(parameters->values[i]) != length) {
    failure_set(error, "22021", "%s holds a NUL byte; pass bytes as pgq.bytea(string)", name);
    return -1;
  }
  return 0;
}

/* Pushes a zeroed block of memory as a userdata. */
static void *push_block(lua_State *L, int count, size_t size) {
  size_t bytes = (size_t)(count + 1) * size;
  void *block = lua_newuserdata(L, bytes);
  memset(block, 0, bytes);
  return block;
}

int parameters_read(lua_State *L, int first, struct parameters *parameters, struct pgq_error *error) {
  int count = lua_gettop(L) - first + 1;
  if (count > PARAMETERS_MAX) {
    failure_set(error, "54000", "%d parameters are too many, the limit is %d; pass many values as one list", count,
                PARAMETERS_MAX);
    return -1;
  }
  parameters->count = count;
  parameters->bytes = 0;
  parameters->types = push_block(L, count, sizeof *parameters->types);
  parameters->values = push_block(L, count, sizeof *parameters->values);
  parameters->lengths = push_block(L, count, sizeof *parameters->lengths);
  parameters->formats = push_block(L, count, sizeof *parameters->formats);
  for (int i = 0; i < count; i++)
    if (read_parameter(L, first + i, parameters, i, error) != 0)
      return -1;
  return 0;
}
