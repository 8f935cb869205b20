#ifndef PGQ_VALUE_H
#define PGQ_VALUE_H

/*
 * Lua values as they appear inside of parameters: their kinds, their texts, and the marked values that pgq.bytea and
 * pgq.json return. Every function may raise a Lua error when memory runs out. Memory that does not belong to Lua hangs
 * on userdata, so that the garbage collector frees it then.
 */

#include <lua.h>
#include <stddef.h>
#include <stdint.h>

/* The largest integer up to which a Lua number can hold every integer. */
#define VALUE_EXACT_INTEGER_MAX 9007199254740992.0

/* Numbers of Postgres' types. */
enum {
  TYPE_BOOL = 16,
  TYPE_BYTEA = 17,
  TYPE_INT8 = 20,
  TYPE_INT2 = 21,
  TYPE_INT4 = 23,
  TYPE_FLOAT4 = 700,
  TYPE_FLOAT8 = 701,
  TYPE_BYTEA_ARRAY = 1001,
  TYPE_JSONB = 3802,
  TYPE_JSONB_ARRAY = 3807,
};

enum value_kind {
  VALUE_NULL, /* nil or pgq.null */
  VALUE_BOOLEAN,
  VALUE_NUMBER,
  VALUE_INTEGER, /* a 64-bit integer of LuaJIT, such as 42LL */
  VALUE_STRING,
  VALUE_BYTEA,
  VALUE_JSON,
  VALUE_TABLE,
  VALUE_OTHER
};

/* Creates the metatables of marked values. Must be called once per Lua state, before any other function here. */
void value_init(lua_State *L);

/* Replaces the string on top of the stack by a value of kind VALUE_BYTEA or VALUE_JSON that holds it. */
void value_mark(lua_State *L, enum value_kind kind);

/* Returns the kind of the value at the absolute stack index. */
enum value_kind value_kind(lua_State *L, int index);

/* Pushes the text of the value at `index`. The kind must be number, integer, string, bytea (the text is its bytes) or
 * json. */
void value_push_text(lua_State *L, int index, enum value_kind kind);

/* Pushes an integer: as a number, or as its digits when a number cannot hold it exactly. */
void value_push_integer(lua_State *L, int64_t integer);

/* Returns the number of elements of the table at the absolute stack index, if the table is a list; {} is one. Returns
 * -1 otherwise, and writes the reason to `problem` as the end of a sentence whose subject is the table. */
int value_list_length(lua_State *L, int index, char *problem, size_t size);

#endif
