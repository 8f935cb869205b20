#ifndef PGQ_HANDLE_H
#define PGQ_HANDLE_H

/*
 * A connection as the Lua half of the module sees it: a userdata with methods. No function here blocks unless its
 * comment says so. A failure is returned to Lua as nil, message, code; misuse as false, message.
 *
 * The files of this folder include each other downwards:
 *
 *     core ─► enqueuer ─► statement ─► prepared ─► handle ─► results ─► value
 *      │                                  └─► parameters ─► array_literal ─► value
 *      └─► json_text ─► value
 */

#include <lauxlib.h>
#include <libpq-fe.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "connector.h"
#include "pgq.h"
#include "results.h"

enum handle_copy {
  HANDLE_COPY_NONE,
  HANDLE_COPY_READING, /* rows of a COPY TO are coming, and are dropped */
  HANDLE_COPY_ENDED    /* the last statement was a COPY, which has been ended */
};

/*
 *     open    `conn` is set; all fields but `closed_message` and `closed_code` are valid
 *     closed  `conn` and `connector` are NULL; of the other fields only `closed_message` and `closed_code` are valid
 */
struct handle {
  struct connector *connector; /* while it connects step by step: then `conn` is NULL */
  PGconn *conn;
  pid_t pid;            /* the process that has opened it; a child of that process must not use it */
  struct answer answer; /* the result of the last statement, until it is taken */
  enum handle_copy copy;
  size_t copy_bytes;      /* of the rows dropped */
  unsigned advance_count; /* calls of handle:advance() for the last statement */
  bool bloated;           /* libpq's buffers, which never shrink, have become so large that the connection should go */

  bool prepares;            /* statements that are repeated are prepared; see prepared.h for the next three */
  int prepared_count;       /* the number of prepared statements */
  int repeatable_count;     /* statements that have run once and are prepared when they run again */
  unsigned prepared_number; /* of the statement prepared last; never goes back */

  const char *closed_message; /* why the connection is closed; NULL: by handle:close() */
  const char *closed_code;    /* SQLSTATE for the statement that closed the connection, until it is reported; or NULL */
};

/* A connection with a row or a set of parameters of more than this many bytes becomes bloated. */
enum { HANDLE_LARGE = 8 << 20 };

/* What a step waits for; Lua gets these as numbers. LOST: it waits for nothing, since the socket is gone. */
enum handle_progress { HANDLE_DONE, HANDLE_WAIT_READ, HANDLE_WAIT_WRITE, HANDLE_LOST };

/* Creates the metatable of handles, with the methods that are about the connection itself. Must be called once per Lua
 * state, before any other function here. */
void handle_init(lua_State *L);

/* Adds methods to all handles; the list ends with {NULL, NULL}. */
void handle_add_methods(lua_State *L, const luaL_Reg *methods);

/* Returns the handle at stack index 1. Raises a Lua error if there is none. In a child of the process that has opened
 * the connection, it is closed. */
struct handle *handle_check(lua_State *L);

/* Closes the connection if it is open, and frees the result that was not taken. `message` says why, or is NULL; `code`
 * is the SQLSTATE that the current statement fails with, or NULL. Both must be literals. */
void handle_shut(struct handle *handle, const char *code, const char *message);

/* These push what a failed Lua function returns, and return the number of these values. */
int handle_push_failure(lua_State *L, const struct pgq_error *error);
int handle_fail(lua_State *L, const char *sqlstate, const char *message);
int handle_fail_closed(lua_State *L, const struct handle *handle);

/* If the last statement left no result that can be taken, pushes the failure and returns the number of values pushed;
 * otherwise returns 0. */
int handle_push_absence(lua_State *L, struct handle *handle);

/* Sets the error from the result of the last statement. Replaces messages that a user could not act on. */
void handle_explain(struct handle *handle, struct pgq_error *error);

/* Lua: connect(conninfo) -> handle. Blocks until the connection is there or has failed. An empty string leaves
 * everything to libpq's environment variables and defaults. */
int handle_connect(lua_State *L);

/* Lua: connect_start(conninfo) -> handle. The caller must call handle:connect_step(), and go on with what
 * that returns. */
int handle_connect_start(lua_State *L);

#endif
