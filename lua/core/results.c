#include "results.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "value.h"

/* Before a result of at least this many bytes is copied into Lua values, garbage is collected. */
enum { LARGE_RESULT = 4 << 20 };

void results_clear(struct answer *answer) {
  PQclear(answer->result);
  PQfreemem(answer->bytes);
  *answer = (struct answer){0};
}

static void push_number(lua_State *L, const char *text) {
  /* Unlike strtod, Lua's conversion does not depend on the locale. It reads NaN and Infinity too. */
  lua_pushstring(L, text);
  lua_pushnumber(L, lua_tonumber(L, -1));
  lua_remove(L, -2);
}

static void push_bytes(lua_State *L, struct answer *answer, const char *text) {
  size_t length;
  answer->bytes = PQunescapeBytea((const unsigned char *)text, &length);
  if (answer->bytes == NULL)
    luaL_error(L, "not enough memory");
  lua_pushlstring(L, (const char *)answer->bytes, length);
  PQfreemem(answer->bytes);
  answer->bytes = NULL;
}

static void push_value(lua_State *L, struct answer *answer, int row, int column) {
  const PGresult *result = answer->result;
  const char *text = PQgetvalue(result, row, column);
  switch (PQftype(result, column)) {
  case TYPE_BOOL:
    lua_pushboolean(L, *text == 't');
    break;
  case TYPE_BYTEA:
    push_bytes(L, answer, text);
    break;
  case TYPE_INT8:
    value_push_integer(L, strtoll(text, NULL, 10));
    break;
  case TYPE_INT2:
  case TYPE_INT4:
  case TYPE_FLOAT4:
  case TYPE_FLOAT8:
    push_number(L, text);
    break;
  default:
    lua_pushlstring(L, text, (size_t)PQgetlength(result, row, column));
  }
}

/* Pushes the names of the columns as a list, so that each becomes a Lua string only once. */
static void push_names(lua_State *L, const PGresult *result, int columns) {
  lua_createtable(L, columns, 0);
  for (int column = 0; column < columns; column++) {
    lua_pushstring(L, PQfname(result, column));
    lua_rawseti(L, -2, column + 1);
  }
}

/* Pushes the row as a table. The list of column names must be on top of the stack. Returns the bytes of the row. */
static size_t push_row(lua_State *L, struct answer *answer, int row, int columns) {
  size_t bytes = 0;
  lua_createtable(L, 0, columns);
  for (int column = 0; column < columns; column++) {
    lua_rawgeti(L, -2, column + 1);
    if (PQgetisnull(answer->result, row, column))
      lua_pushlightuserdata(L, NULL);
    else
      push_value(L, answer, row, column);
    lua_rawset(L, -3);
    bytes += (size_t)PQgetlength(answer->result, row, column);
  }
  return bytes;
}

size_t results_push_rows(lua_State *L, struct answer *answer) {
  size_t largest = 0;
  int rows = PQntuples(answer->result), columns = PQnfields(answer->result);
  luaL_checkstack(L, 8, "no stack for a result");
  if (PQresultMemorySize(answer->result) > LARGE_RESULT)
    lua_gc(L, LUA_GCCOLLECT, 0);
  lua_createtable(L, rows, 1);
  push_names(L, answer->result, columns);
  for (int row = 0; row < rows; row++) {
    size_t bytes = push_row(L, answer, row, columns);
    largest = bytes > largest ? bytes : largest;
    lua_rawseti(L, -3, row + 1);
  }
  lua_pop(L, 1);
  lua_pushnumber(L, strtod(PQcmdTuples(answer->result), NULL));
  lua_setfield(L, -2, "affected");
  return largest;
}
