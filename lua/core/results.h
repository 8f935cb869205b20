#ifndef PGQ_RESULTS_H
#define PGQ_RESULTS_H

/* The result of a statement as Lua values. */

#include <libpq-fe.h>
#include <lua.h>

/* A result of libpq while it is turned into Lua values. The owner frees it with results_clear(), also after a Lua
 * error. A zeroed struct holds nothing. */
struct answer {
  PGresult *result;
  unsigned char *bytes; /* of the bytea that is being decoded */
};

/* Frees what the answer holds. */
void results_clear(struct answer *answer);

/* Pushes the rows: a list of tables by column name, with the field `affected`. Returns the bytes of the largest row.
 * May raise a Lua error when memory runs out. */
size_t results_push_rows(lua_State *L, struct answer *answer);

#endif
