#ifndef PGQ_PREPARING_H
#define PGQ_PREPARING_H

/* Statements on a handle that are prepared when they are run again. */

#include "handle.h"
#include "values.h"

/* How a statement was sent; Lua gets these as numbers. */
enum sent { SENT_FAILED, SENT_PLAIN, SENT_PREPARED, SENT_PREPARING };

/* Sends the statement: as it is, prepared, or for now only to be prepared. With `always`, what is new is prepared too.
 */
enum sent preparing_send(struct handle *handle, const char *sql, const struct parameters *p, bool always);

/* Remembers the statement whose result the handle has, and that succeeded, if it is worth preparing. */
void preparing_see(struct handle *handle);

void preparing_add_methods(lua_State *L);

#endif
