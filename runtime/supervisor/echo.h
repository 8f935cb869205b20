#ifndef PGQ_ECHO_H
#define PGQ_ECHO_H

#include <stdbool.h>
#include <uv.h>

#include "connection.h"

/*
 * Whose sessions are they? Between us and the server stands a pooler, as the process number tells. When it lends a
 * session for as long as a connection lasts, all is well. When it lends it for a transaction only, what is notified in
 * one of our sessions is not heard in another that has said LISTEN: it is not ours any more. So that is tried.
 */
struct echo;

/*
 * echo_new(loop, conninfo, mode, done, owner): another connection has said LISTEN pgq_echo, and passes on what comes in
 * there with echo_heard(). done(owner, heard) is called once, within a second or two.
 */
struct echo *echo_new(uv_loop_t *loop, const char *conninfo, struct session_mode *mode,
                      void (*done)(void *owner, bool heard), void *owner);
void echo_heard(struct echo *echo, const char *payload);

/* echo_free(echo): NULL is allowed. */
void echo_free(struct echo *echo);

#endif
