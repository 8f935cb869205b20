#ifndef PGQ_PARAMETERS_H
#define PGQ_PARAMETERS_H

/*
 * Lua values as the parameters of a statement. A value that cannot be used is a failure with an SQLSTATE. A value that
 * can never be used, because of its type or the shape of a table, is misuse: an error whose SQLSTATE is empty.
 */

#include <libpq-fe.h>
#include <lua.h>
#include <stddef.h>

#include "pgq.h"

/* The arguments of PQsendQueryParams. The arrays belong to Lua, and live as long as the stack slots that
 * parameters_read() has used and left. */
struct parameters {
  int count;
  size_t bytes; /* of all values together */
  Oid *types;
  const char **values;
  int *lengths;
  int *formats;
};

/* Reads the values from stack index `first` up to the top, and leaves the stack higher than it was. Returns 0; or -1
 * with an error that names the parameter. May raise a Lua error when memory runs out. */
int parameters_read(lua_State *L, int first, struct parameters *parameters, struct pgq_error *error)
    __attribute__((warn_unused_result));

#endif
