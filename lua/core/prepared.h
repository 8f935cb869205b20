#ifndef PGQ_PREPARED_H
#define PGQ_PREPARED_H

/*
 * Prepared statements on a handle: Postgres parses and plans a statement once, not each time that it runs.
 *
 * The enqueueing INSERT is prepared when it is sent first. Any other statement is prepared when a SELECT, INSERT,
 * UPDATE, DELETE or MERGE is sent again with the same text and types of parameters, except that a text with a literal
 * never is: Postgres reads 'now' or 'today' when it prepares the statement, not when it runs it. At most 50 statements
 * are prepared on a connection; those that come later are sent whole each time.
 *
 * All functions expect the handle at stack index 1. They may raise a Lua error when memory runs out.
 */

#include <lua.h>
#include <stdbool.h>

#include "handle.h"
#include "parameters.h"

/* How a statement was sent; Lua gets these as numbers. */
enum sent { SENT_FAILED, SENT_WHOLE, SENT_PREPARED, SENT_PREPARE };

/* Adds the methods to all handles. Must be called after handle_init(). */
void prepared_init(lua_State *L);

/* Sends the statement, whole or prepared; or, with SENT_PREPARE, only asks the server to prepare it: then the caller
 * must wait, call handle:take_prepared(), and send it again. `always` prepares it when it is sent first. Returns
 * SENT_FAILED when it could not be sent; libpq has the message. */
enum sent prepared_send(lua_State *L, struct handle *handle, const char *sql, const struct parameters *p, bool always);

/* Pushes the key of a statement that is sent with `always`, whose parameters have the same types each time. As long as
 * it is on the stack, prepared_send() for that statement raises no error. */
void prepared_push_fixed_key(lua_State *L, const char *sql);

/* Notes that the statement that was sent last has succeeded, with this command tag. */
void prepared_note_success(lua_State *L, struct handle *handle, const char *tag);

#endif
