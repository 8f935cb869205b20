#ifndef PGQ_HANDLE_H
#define PGQ_HANDLE_H

/* A connection as the Lua half of the module has it: connecting, statements in steps, their results. Nothing here
 * waits but what says so. Failures are returned to Lua as nil, message, code; misuse as false, message. */

#include <libpq-fe.h>
#include <lua.h>
#include <stdbool.h>

#include "pgq.h"
#include "prepared.h"
#include "results.h"

struct handle {
  PGconn *conn;         /* NULL once closed */
  struct answer answer; /* the first result of the last statement, until it is taken */
  bool copied;          /* the last statement was a COPY, which has been ended */
  bool copying;         /* rows of a COPY are coming, and are dropped */
  size_t dropped;       /* bytes of them */
  bool bloated;         /* libpq's buffers have grown so much that it is better to connect again: they never shrink */
  unsigned steps;       /* of advance() for the last statement */
  struct prepared *prepared; /* NULL: nothing is to be prepared */
  uint64_t seen;             /* of the last statement, to be remembered when it succeeds; or 0 */
  const char *closed_by;     /* why the connection is closed, if not by close() */
  const char *code;          /* the SQLSTATE of that for the statement that it happened to, until it is told */
};

/* What a step waits for; Lua gets these as numbers. The last: nothing, and the socket is gone. */
enum progress { PROGRESS_DONE, PROGRESS_READ, PROGRESS_WRITE, PROGRESS_LOST };

/* Creates the metatable of handles; once per Lua state, before anything else here. */
void handle_init(lua_State *L);

/* The handle at stack index 1. */
struct handle *handle_check(lua_State *L);

/* Closes the connection, if it is open, for a reason or NULL; `code` is the SQLSTATE for the statement that it ends, or
 * NULL. What the handle has not given out is freed. */
void handle_shut(struct handle *handle, const char *code, const char *reason);

/* So much in a row of a result, or in the parameters of a statement, makes a connection bloated. */
enum { HANDLE_LARGE = 8 << 20 };

/* Push what a function returns that fails, and return how many values that is. */
int handle_push_failure(lua_State *L, const struct pgq_error *error);
int handle_fail(lua_State *L, const char *sqlstate, const char *message);
int handle_fail_closed(lua_State *L, const struct handle *handle);

/* ---- Lua functions */

/* connect(conninfo) -> handle. Waits until there is a connection, or none. An empty string leaves everything to libpq's
 * environment variables and defaults. */
int handle_connect(lua_State *L);

/* connect_start(conninfo) -> handle, on which connect_step() is due whenever its socket can be written, and then what
 * that says. */
int handle_connect_start(lua_State *L);

/* The methods of handles that are about statements; statement.c. */
void statement_add_methods(lua_State *L);

/* Pushes why there is no result to take, and returns how many values that is, if so. */
int statement_push_absence(lua_State *L, struct handle *handle);

/* Sets the error from the result, with what a user cannot act on replaced. */
void statement_explain(struct handle *handle, struct pgq_error *error);

/* handle:enqueuer(queue, after, delay_ms, waits) -> what enqueues many jobs; many.c. */
void many_init(lua_State *L);
int many_new(lua_State *L);

/* Reads the arguments (queue, after, delay_ms, waits) from stack index `first`, of which the last three may be nil.
 * The texts stay Lua's; pushes an array that has to stay as long. Returns 0, or -1 with an error. */
int statement_read_options(lua_State *L, int first, const char **queue, struct pgq_options *options,
                           struct pgq_error *error) __attribute__((warn_unused_result));

#endif
