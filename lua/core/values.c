#include "values.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "builder.h"
#include "failure.h"
#include "text.h"

#define BYTEA_TYPE "pgq.bytea"
#define JSON_TYPE "pgq.json"

/* LuaJIT's type of values of the ffi library, for which its headers have no name. */
enum { LUA_TCDATA = 10 };

/* ---- Marked values */

/* Pushes a value that holds the string on top, which it removes. */
static void wrap(lua_State *L, const char *type) {
  lua_createtable(L, 1, 0);
  lua_insert(L, -2);
  lua_rawseti(L, -2, 1);
  luaL_setmetatable(L, type);
}

int values_bytea(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  lua_pushvalue(L, 1);
  wrap(L, BYTEA_TYPE);
  return 1;
}

int values_json(lua_State *L) {
  char problem[512], message[512];
  lua_settop(L, 1);
  if (values_push_json(L, 1, problem, sizeof problem) == 0) {
    wrap(L, JSON_TYPE);
    return 1;
  }
  text_clean(message, sizeof message, problem, strlen(problem)); /* a path may be cut inside of a character */
  lua_pushnil(L);
  lua_pushstring(L, message);
  return 2;
}

static bool is_wrapped(lua_State *L, int index, const char *type) {
  if (!lua_getmetatable(L, index))
    return false;
  luaL_getmetatable(L, type);
  bool equal = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return equal;
}

/* ---- Kinds and texts */

/* Whether the text is how LuaJIT writes a 64-bit integer: digits, then LL or ULL. Sets the number of bytes before. */
static bool is_integer(const char *text, size_t length, size_t *digits) {
  size_t start = *text == '-';
  *digits = start + strspn(text + start, "0123456789");
  const char *suffix = text + *digits;
  return *digits > start && (strcmp(suffix, "LL") == 0 || strcmp(suffix, "ULL") == 0) &&
         length == *digits + strlen(suffix);
}

/* Pushes the digits of a value of the ffi library and returns true, if it is a 64-bit integer. */
static bool push_digits(lua_State *L, int index) {
  size_t length, digits;
  if (!luaL_callmeta(L, index, "__tostring"))
    return false;
  const char *text = lua_tolstring(L, -1, &length);
  bool integer = text != NULL && is_integer(text, length, &digits);
  if (integer)
    lua_pushlstring(L, text, digits);
  lua_remove(L, integer ? -2 : -1);
  return integer;
}

static enum value_kind cdata_kind(lua_State *L, int index) {
  if (!push_digits(L, index))
    return VALUE_OTHER;
  lua_pop(L, 1);
  return VALUE_INTEGER;
}

enum value_kind values_kind(lua_State *L, int index) {
  switch (lua_type(L, index)) {
  case LUA_TNIL:
    return VALUE_NULL;
  case LUA_TLIGHTUSERDATA:
    return lua_touserdata(L, index) == NULL ? VALUE_NULL : VALUE_OTHER;
  case LUA_TBOOLEAN:
    return VALUE_BOOLEAN;
  case LUA_TNUMBER:
    return VALUE_NUMBER;
  case LUA_TSTRING:
    return VALUE_STRING;
  case LUA_TTABLE:
    return is_wrapped(L, index, BYTEA_TYPE) ? VALUE_BYTEA : is_wrapped(L, index, JSON_TYPE) ? VALUE_JSON : VALUE_TABLE;
  case LUA_TCDATA:
    return cdata_kind(L, index);
  default:
    return VALUE_OTHER;
  }
}

/* Writes an integer without an exponent, and any other number with as few digits as give the same number back. */
static void format_number(double number, char *buffer, size_t size) {
  if (isnan(number)) {
    snprintf(buffer, size, "NaN");
  } else if (isinf(number)) {
    snprintf(buffer, size, number < 0 ? "-Infinity" : "Infinity");
  } else if (number == floor(number) && fabs(number) < 18446744073709551616.0) {
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

void values_push_text(lua_State *L, int index, enum value_kind kind) {
  char number[64];
  if (kind == VALUE_NUMBER) {
    format_number(lua_tonumber(L, index), number, sizeof number);
    lua_pushstring(L, number);
  } else if (kind == VALUE_INTEGER) {
    if (!push_digits(L, index))
      luaL_error(L, "an integer has changed");
  } else if (kind == VALUE_STRING) {
    lua_pushvalue(L, index);
  } else {
    lua_rawgeti(L, index, 1); /* of what wrap() has made */
  }
}

void values_push_integer(lua_State *L, int64_t integer) {
  char digits[24];
  if (integer < (int64_t)EXACT_INTEGER_MAX && integer > -(int64_t)EXACT_INTEGER_MAX) {
    lua_pushnumber(L, (lua_Number)integer);
    return;
  }
  snprintf(digits, sizeof digits, "%" PRId64, integer);
  lua_pushstring(L, digits);
}

/* ---- Parameters */

/* Replaces the value at `index` by its text, and sets the type. Returns 0, or -1 with an error. */
static int make_text(lua_State *L, int index, enum value_kind kind, const char *name, Oid *type,
                     struct pgq_error *error) {
  switch (kind) {
  case VALUE_NUMBER:
  case VALUE_INTEGER:
  case VALUE_STRING:
    values_push_text(L, index, kind);
    break;
  case VALUE_BYTEA:
  case VALUE_JSON:
    values_push_text(L, index, kind);
    *type = kind == VALUE_BYTEA ? TYPE_BYTEA : TYPE_JSONB;
    break;
  case VALUE_TABLE:
    if (values_push_array(L, index, name, type, error) != 0)
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

/* Makes the value at `index` parameter `i`. Its text replaces it on the stack, and so stays where it is. */
static int read_parameter(lua_State *L, int index, struct parameters *parameters, int i, struct pgq_error *error) {
  char name[32];
  size_t length;
  enum value_kind kind = values_kind(L, index);
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

/* Pushes a zeroed block that the collector frees. */
static void *push_block(lua_State *L, int count, size_t size) {
  size_t bytes = (size_t)(count + 1) * size;
  void *block = lua_newuserdata(L, bytes);
  memset(block, 0, bytes);
  return block;
}

int values_read_parameters(lua_State *L, int first, struct parameters *parameters, struct pgq_error *error) {
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

static int tostring(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  return 1;
}

/* The metatable of marked values, which shows only the name of the type. */
static void new_type(lua_State *L, const char *type) {
  luaL_newmetatable(L, type);
  lua_pushstring(L, type);
  lua_setfield(L, -2, "__metatable");
  lua_pushstring(L, type);
  lua_pushcclosure(L, tostring, 1);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
}

void values_init(lua_State *L) {
  builder_init(L);
  new_type(L, BYTEA_TYPE);
  new_type(L, JSON_TYPE);
}
