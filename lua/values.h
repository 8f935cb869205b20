#ifndef PGQ_VALUES_H
#define PGQ_VALUES_H

/* Lua values to parameters of a statement, and the result of a statement to Lua values. Every function may throw a Lua
 * error when memory runs out; what libpq has allocated hangs on userdata and is then freed by the collector. */

#include <libpq-fe.h>
#include <lua.h>

#include "pgq.h"

/* Creates the metatables; once per Lua state, before anything else here. */
void values_init(lua_State *L);

/* Lua: bytea(bytes) -> a value that travels as the parameter `bytes` of type bytea. */
int values_bytea(lua_State *L);

/* The parameters of one statement, for PQexecParams. The arrays belong to Lua and live as long as the stack slots that
 * values_read_parameters() used and left. */
struct parameters {
  int count;
  Oid *types;
  const char **values;
  int *lengths;
  int *formats;
};

/* Reads the values from stack index `first` up to the top. Leaves the stack higher than it was. Returns 0, or -1 with
 * an error when a value cannot be a parameter: a text with a NUL byte. A value of a type that never can be one is a Lua
 * error, raised against the argument. */
int values_read_parameters(lua_State *L, int first, struct parameters *parameters, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* A place for a result of libpq that the collector clears, should a Lua error pass by. */
struct result_holder {
  PGresult *result;
  unsigned char *bytes; /* a value that is being decoded */
};

/* Pushes a new, empty holder. */
struct result_holder *values_new_holder(lua_State *L);

/* Frees what the holder holds. */
void values_clear_holder(struct result_holder *holder);

/* Pushes the rows of the result: a list of tables by column name, with the field `affected`. */
void values_push_rows(lua_State *L, struct result_holder *holder);

#endif
