#ifndef PGQ_ECHO_H
#define PGQ_ECHO_H

#include <stdbool.h>
#include <uv.h>

#include "connection.h"

/*
 * Whose sessions are they? Between us and the server stands a pooler, as the process number tells. It may lend a
 * session for as long as a connection lasts: then all is well. Or it lends it for a transaction, and then to others.
 * Two connections try it:
 *
 *     first:  which session is this?
 *     second: BEGIN; and this?                     the same: shared
 *     first:  and now, and now …?                  another: shared
 *     first:  LISTEN
 *     second: COMMIT; NOTIFY                       the first hears it: its session is its own
 *     first:  UNLISTEN, until that was said where LISTEN was
 *
 * The last step alone would tell; but finding the session again in which LISTEN was said takes luck in a busy pool.
 */
struct echo;

/* echo_new(loop, conninfo, mode, done, owner): done(owner, own) is called once, within six seconds, mostly a tenth of
 * one. */
struct echo *echo_new(uv_loop_t *loop, const char *conninfo, struct session_mode *mode,
                      void (*done)(void *owner, bool own), void *owner);

/* echo_free(echo): NULL is allowed. */
void echo_free(struct echo *echo);

#endif
