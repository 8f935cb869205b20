#include "value.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTEA_TYPE "pgq.bytea"
#define JSON_TYPE "pgq.json"

/* The type of values of LuaJIT's ffi library. LuaJIT's headers have no name for it. */
enum { LUA_TCDATA = 10 };

/* ---- Marked values: a table whose element 1 is the string, with the metatable of its kind */

void value_mark(lua_State *L, enum value_kind kind) {
  lua_createtable(L, 1, 0);
  lua_insert(L, -2);
  lua_rawseti(L, -2, 1);
  luaL_setmetatable(L, kind == VALUE_BYTEA ? BYTEA_TYPE : JSON_TYPE);
}

static bool is_marked(lua_State *L, int index, const char *type) {
  if (!lua_getmetatable(L, index))
    return false;
  luaL_getmetatable(L, type);
  bool equal = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return equal;
}

/* ---- Kinds and texts */

/* Whether the text is a 64-bit integer as LuaJIT writes it: digits, then LL or ULL. Sets *digits to the number of bytes
 * before LL or ULL. */
static bool is_integer(const char *text, size_t length, size_t *digits) {
  size_t start = *text == '-';
  *digits = start + strspn(text + start, "0123456789");
  const char *suffix = text + *digits;
  return *digits > start && (strcmp(suffix, "LL") == 0 || strcmp(suffix, "ULL") == 0) &&
         length == *digits + strlen(suffix);
}

/* If the ffi value at `index` is a 64-bit integer, pushes its digits and returns true. */
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

enum value_kind value_kind(lua_State *L, int index) {
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
    return is_marked(L, index, BYTEA_TYPE) ? VALUE_BYTEA : is_marked(L, index, JSON_TYPE) ? VALUE_JSON : VALUE_TABLE;
  case LUA_TCDATA:
    return cdata_kind(L, index);
  default:
    return VALUE_OTHER;
  }
}

/* Writes an integer without an exponent, and any other number with the fewest digits that read back as the same number.
 */
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
    char *comma = strchr(buffer, ','); /* the script may have set a locale with a decimal comma */
    if (comma != NULL)
      *comma = '.';
  }
}

void value_push_text(lua_State *L, int index, enum value_kind kind) {
  char number[64];
  if (kind == VALUE_NUMBER) {
    format_number(lua_tonumber(L, index), number, sizeof number);
    lua_pushstring(L, number);
  } else if (kind == VALUE_INTEGER) {
    if (!push_digits(L, index))
      luaL_error(L, "a 64-bit integer has lost its digits");
  } else if (kind == VALUE_STRING) {
    lua_pushvalue(L, index);
  } else {
    lua_rawgeti(L, index, 1); /* see value_mark() */
  }
}

void value_push_integer(lua_State *L, int64_t integer) {
  char digits[24];
  if (integer < (int64_t)VALUE_EXACT_INTEGER_MAX && integer > -(int64_t)VALUE_EXACT_INTEGER_MAX) {
    lua_pushnumber(L, (lua_Number)integer);
    return;
  }
  snprintf(digits, sizeof digits, "%" PRId64, integer);
  lua_pushstring(L, digits);
}

/* ---- Lists */

int value_list_length(lua_State *L, int index, char *problem, size_t size) {
  int count = 0;
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    count++;
    if (lua_type(L, -2) == LUA_TSTRING) {
      snprintf(problem, size, "has the key \"%.100s\": it is no list; pass it as pgq.json(value)", lua_tostring(L, -2));
      lua_pop(L, 2);
      return -1;
    }
  }
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, index, i);
    bool hole = lua_isnil(L, -1);
    lua_pop(L, 1);
    if (hole) {
      snprintf(problem, size, "has nothing at %d of %d: a list has no holes; write pgq.null for NULL", i, count);
      return -1;
    }
  }
  return count;
}

/* ---- Metatables */

static int tostring(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  return 1;
}

/* Creates the metatable of a marked value. Scripts see nothing of it but the name of the type. */
static void new_type(lua_State *L, const char *type) {
  luaL_newmetatable(L, type);
  lua_pushstring(L, type);
  lua_setfield(L, -2, "__metatable");
  lua_pushstring(L, type);
  lua_pushcclosure(L, tostring, 1);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
}

void value_init(lua_State *L) {
  new_type(L, BYTEA_TYPE);
  new_type(L, JSON_TYPE);
}
