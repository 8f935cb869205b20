#include "values.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"

#define BYTEA_TYPE "pgq.bytea"
#define HOLDER_TYPE "pgq.result"

enum {
  OID_BOOL = 16,
  OID_BYTEA = 17,
  OID_INT8 = 20,
  OID_INT2 = 21,
  OID_INT4 = 23,
  OID_FLOAT4 = 700,
  OID_FLOAT8 = 701,
};

/* The largest integer up to which a Lua number holds every one. */
#define EXACT_INTEGER_MAX 9007199254740992.0

/* ---- Parameters */

int values_bytea(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  lua_createtable(L, 1, 0);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, 1);
  luaL_setmetatable(L, BYTEA_TYPE);
  return 1;
}

static int bytea_tostring(lua_State *L) {
  lua_pushliteral(L, "pgq.bytea");
  return 1;
}

/* If the value at `index` comes from values_bytea(), pushes its bytes. */
static int push_wrapped_bytes(lua_State *L, int index) {
  if (!lua_istable(L, index) || !lua_getmetatable(L, index))
    return 0;
  luaL_getmetatable(L, BYTEA_TYPE);
  int is_bytea = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  if (is_bytea)
    lua_rawgeti(L, index, 1);
  return is_bytea;
}

/* Writes an integer without an exponent, and any other number with as few digits as give the same number back. */
static void format_number(double number, char *buffer, size_t size) {
  if (isnan(number)) {
    snprintf(buffer, size, "NaN");
  } else if (isinf(number)) {
    snprintf(buffer, size, number < 0 ? "-Infinity" : "Infinity");
  } else if (number == floor(number) && fabs(number) < 1e18) {
    snprintf(buffer, size, "%.0f", number);
  } else {
    for (int digits = 15; digits <= 17; digits++) {
      snprintf(buffer, size, "%.*g", digits, number);
      if (strtod(buffer, NULL) == number)
        break;
    }
    char *comma = strchr(buffer, ','); /* the decimal point of the script's os.setlocale */
    if (comma != NULL)
      *comma = '.';
  }
}

/* Makes the value at `index` parameter `i`. Its text replaces it on the stack, and so stays where it is. */
static int read_parameter(lua_State *L, int index, struct parameters *parameters, int i, struct pgq_error *error) {
  char number[64];
  size_t length;
  switch (lua_type(L, index)) {
  case LUA_TNIL:
    return 0;
  case LUA_TBOOLEAN:
    parameters->values[i] = lua_toboolean(L, index) ? "true" : "false";
    return 0;
  case LUA_TNUMBER:
    format_number(lua_tonumber(L, index), number, sizeof number);
    lua_pushstring(L, number);
    lua_replace(L, index);
    break;
  case LUA_TSTRING:
    break;
  default:
    if (push_wrapped_bytes(L, index)) {
      lua_replace(L, index);
      parameters->types[i] = OID_BYTEA;
      parameters->formats[i] = 1;
      break;
    }
    return luaL_error(L, "parameter %d is a %s; pass nil, a boolean, a number, a string or pgq.bytea(string)", i + 1,
                      luaL_typename(L, index));
  }
  parameters->values[i] = lua_tolstring(L, index, &length);
  parameters->lengths[i] = (int)length;
  if (parameters->formats[i] == 0 && strlen(parameters->values[i]) != length) {
    failure_set(error, "22021", "parameter %d holds a NUL byte; pass bytes as pgq.bytea(string)", i + 1);
    return -1;
  }
  return 0;
}

/* Pushes a zeroed block that the collector frees. */
static void *push_array(lua_State *L, int count, size_t size) {
  size_t bytes = (size_t)(count + 1) * size;
  void *array = lua_newuserdata(L, bytes);
  memset(array, 0, bytes);
  return array;
}

int values_read_parameters(lua_State *L, int first, struct parameters *parameters, struct pgq_error *error) {
  int count = lua_gettop(L) - first + 1;
  luaL_checkstack(L, 8, "too many parameters");
  parameters->count = count;
  parameters->types = push_array(L, count, sizeof *parameters->types);
  parameters->values = push_array(L, count, sizeof *parameters->values);
  parameters->lengths = push_array(L, count, sizeof *parameters->lengths);
  parameters->formats = push_array(L, count, sizeof *parameters->formats);
  for (int i = 0; i < count; i++)
    if (read_parameter(L, first + i, parameters, i, error) != 0)
      return -1;
  return 0;
}

/* ---- Results */

struct result_holder *values_new_holder(lua_State *L) {
  struct result_holder *holder = lua_newuserdata(L, sizeof *holder);
  *holder = (struct result_holder){0};
  luaL_setmetatable(L, HOLDER_TYPE);
  return holder;
}

void values_clear_holder(struct result_holder *holder) {
  PQclear(holder->result);
  PQfreemem(holder->bytes);
  *holder = (struct result_holder){0};
}

static int holder_gc(lua_State *L) {
  values_clear_holder(luaL_checkudata(L, 1, HOLDER_TYPE));
  return 0;
}

static void push_number(lua_State *L, const char *text) {
  /* Lua's own conversion does not depend on the locale, and knows NaN and Infinity. */
  lua_pushstring(L, text);
  lua_pushnumber(L, lua_tonumber(L, -1));
  lua_remove(L, -2);
}

static void push_bytes(lua_State *L, struct result_holder *holder, const char *text) {
  size_t length;
  holder->bytes = PQunescapeBytea((const unsigned char *)text, &length);
  if (holder->bytes == NULL)
    luaL_error(L, "out of memory for a value of type bytea");
  lua_pushlstring(L, (const char *)holder->bytes, length);
  PQfreemem(holder->bytes);
  holder->bytes = NULL;
}

static void push_value(lua_State *L, struct result_holder *holder, int row, int column) {
  const PGresult *result = holder->result;
  const char *text = PQgetvalue(result, row, column);
  switch (PQftype(result, column)) {
  case OID_BOOL:
    lua_pushboolean(L, *text == 't');
    break;
  case OID_BYTEA:
    push_bytes(L, holder, text);
    break;
  case OID_INT8:
    push_number(L, text);
    if (fabs(lua_tonumber(L, -1)) >= EXACT_INTEGER_MAX) {
      lua_pop(L, 1);
      lua_pushstring(L, text);
    }
    break;
  case OID_INT2:
  case OID_INT4:
  case OID_FLOAT4:
  case OID_FLOAT8:
    push_number(L, text);
    break;
  default:
    lua_pushlstring(L, text, (size_t)PQgetlength(result, row, column));
  }
}

void values_push_rows(lua_State *L, struct result_holder *holder) {
  int rows = PQntuples(holder->result), columns = PQnfields(holder->result);
  luaL_checkstack(L, 8, "no room for a result");
  lua_createtable(L, rows, 1);
  lua_createtable(L, columns, 0); /* the names, so that each becomes a Lua string once */
  for (int column = 0; column < columns; column++) {
    lua_pushstring(L, PQfname(holder->result, column));
    lua_rawseti(L, -2, column + 1);
  }
  for (int row = 0; row < rows; row++) {
    lua_createtable(L, 0, columns);
    for (int column = 0; column < columns; column++) {
      if (PQgetisnull(holder->result, row, column))
        continue;
      lua_rawgeti(L, -2, column + 1);
      push_value(L, holder, row, column);
      lua_rawset(L, -3);
    }
    lua_rawseti(L, -3, row + 1);
  }
  lua_pop(L, 1);
  lua_pushnumber(L, strtod(PQcmdTuples(holder->result), NULL));
  lua_setfield(L, -2, "affected");
}

void values_init(lua_State *L) {
  luaL_newmetatable(L, HOLDER_TYPE);
  lua_pushcfunction(L, holder_gc);
  lua_setfield(L, -2, "__gc");
  luaL_newmetatable(L, BYTEA_TYPE);
  lua_pushcfunction(L, bytea_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, BYTEA_TYPE);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 2);
}
