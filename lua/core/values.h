#ifndef PGQ_VALUES_H
#define PGQ_VALUES_H

/* Lua values to parameters of a statement. Every function may raise a Lua error when memory runs out; what is not Lua's
 * memory hangs on userdata and is then freed by the collector.
 *
 * A value that cannot be used is a failure with an SQLSTATE. One that can never be used, because of its type or the
 * shape of a table, is misuse: an error whose SQLSTATE is empty. */

#include <libpq-fe.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "pgq.h"

/* Postgres' types that are told apart here. */
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

/* The largest integer up to which a Lua number holds every one. */
#define EXACT_INTEGER_MAX 9007199254740992.0

/* A statement cannot have more parameters: the protocol counts them in 16 bits. */
enum { PARAMETERS_MAX = 65535 };

/* Creates the metatables; once per Lua state, before anything else here. */
void values_init(lua_State *L);

/* Lua: bytea(bytes) -> a value that travels as the parameter `bytes` of type bytea. */
int values_bytea(lua_State *L);

/* Lua: json(value) -> a value that travels as the parameter of type jsonb that the value makes; or nil, problem when it
 * makes none. */
int values_json(lua_State *L);

/* Pushes an integer: as a number, or as its digits when a number cannot hold it exactly. */
void values_push_integer(lua_State *L, int64_t integer);

/* The parameters of one statement, for PQsendQueryParams. The arrays belong to Lua and live as long as the stack slots
 * that values_read_parameters() used and left. */
struct parameters {
  int count;
  size_t bytes; /* of all values together */
  Oid *types;
  const char **values;
  int *lengths;
  int *formats;
};

/* Reads the values from stack index `first` up to the top. Leaves the stack higher than it was. Returns 0, or -1 with
 * an error, which names the parameter. */
int values_read_parameters(lua_State *L, int first, struct parameters *parameters, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* ---- For the parts of this: values.c, values_array.c, values_json.c */

/* The kinds of a value inside of a parameter. */
enum value_kind {
  VALUE_NULL, /* nil or pgq.null */
  VALUE_BOOLEAN,
  VALUE_NUMBER,
  VALUE_INTEGER, /* a 64-bit integer of LuaJIT, as 42LL */
  VALUE_STRING,
  VALUE_BYTEA,
  VALUE_JSON,
  VALUE_TABLE,
  VALUE_OTHER
};

/* What the value at `index` is. */
enum value_kind values_kind(lua_State *L, int index);

/* Pushes the text of a value that is a number, an integer, a string, a bytea (its bytes) or a json. */
void values_push_text(lua_State *L, int index, enum value_kind kind);

/* Pushes the array literal of the list at `index`, and sets the type of the parameter, 0 for what the server makes of
 * it. Returns 0; or -1 with an error, which begins with `name`, and nothing pushed that matters. */
int values_push_array(lua_State *L, int index, const char *name, Oid *type, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* The number of elements of the table at `index`, if it is a list; or -1 with what is wrong written to `problem`. The
 * table {} is a list. */
int values_list_length(lua_State *L, int index, char *problem, size_t size);

/* Pushes the JSON text of the value at `index`. Returns 0; or -1 with what is wrong written to `problem`. */
int values_push_json(lua_State *L, int index, char *problem, size_t size) __attribute__((warn_unused_result));

#endif
