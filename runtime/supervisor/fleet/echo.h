#ifndef PGQ_ECHO_H
#define PGQ_ECHO_H

#include <stdbool.h>
#include <uv.h>

#include "connection.h"

/*
 * Whose sessions are they? Between us and the server stands a pooler, as the process number tells. It may lend a
 * session for as long as a connection lasts: then all is well. Or it lends it for a transaction, and then to others.
 * Two connections try it, several times:
 *
 *     first:  which session is this?
 *     second: BEGIN; and this?        the same as the first's: shared
 *     first:  and now?                another one: shared
 *     second: COMMIT                  (and so its session is what a pooler lends next, mostly)
 *     first:  and now?                another one: shared
 *
 * And when none of these was of any use, LISTEN tells:
 *
 *     first:  LISTEN
 *     second: NOTIFY                  the first hears it: its session is its own
 *
 * If it is not, the same rounds go on, with UNLISTEN in front of each question, until it was said where LISTEN was.
 */
struct echo;

/* echo_new(loop, conninfo, mode, done, owner): done(owner, own) is called once, mostly within a tenth of a second. A
 * pool in which a question waits for more than three seconds is taken for shared. */
struct echo *echo_new(uv_loop_t *loop, const char *conninfo, struct session_mode *mode,
                      void (*done)(void *owner, bool own), void *owner);

/* echo_stop(echo): whose sessions they are is not wanted any more: done() is called, when nothing is left behind. */
void echo_stop(struct echo *echo);

/* echo_free(echo): NULL is allowed. */
void echo_free(struct echo *echo);

#endif
