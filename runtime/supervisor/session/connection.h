#ifndef PGQ_CONNECTION_H
#define PGQ_CONNECTION_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <uv.h>

#include "options.h"
#include "statements.h"

/*
 * One connection to Postgres on the supervisor's loop, in pipeline mode, that heals itself: when it cannot be made or
 * is lost, it is tried again after a wait that grows from 100 ms to 10 s.
 *
 *     connection_new ─ connection_open ─► (up ─ send… sync ─► result… synced ─► down)* ─ connection_free
 *
 * Statements of one act are sent with connection_send() and ended with connection_sync(); their results come in the
 * same order through `result`, then `synced` once. After a statement that failed, the rest of its act is skipped by
 * the server: for those `result` gets a PGresult of status PGRES_PIPELINE_ABORTED.
 */
struct connection;

struct connection_events {
  /* The session is ready: statements are prepared, nothing is under way. */
  void (*up)(void *owner);
  /* The session is gone, and with it its transaction and all that was sent and not answered. `reason` is for people. */
  void (*down)(void *owner, const char *reason);
  /* One statement's answer; the result is freed afterwards. */
  void (*result)(void *owner, enum statement statement, PGresult *result);
  void (*synced)(void *owner);
  /* A notification has come in. NULL: nobody listens. */
  void (*notified)(void *owner, const char *channel, const char *payload);
};

/* How long a connection keeps its server session. */
enum session_kind {
  SESSION_UNKNOWN, /* no connection has asked the server yet */
  SESSION_OWN,     /* until it is closed: settings, prepared statements, locks and LISTEN last */
  SESSION_SHARED,  /* for a transaction: a pooler lends the session to others then, so nothing may be left in it */
};

/* What all connections of a worker share. While the kind is unknown, only one connection may be opened; it finds out
 * the kind before it is up. */
struct session_mode {
  enum session_kind kind;
  bool unprepared; /* statements are not to be prepared */
};

/* session_mode_from_options(options): the mode that --pooler and --no-prepare ask for. */
struct session_mode session_mode_from_options(const struct options *options);

/*
 * connection_new(loop, name, conninfo, idle_timeout_ms, mode, events, owner): `name` ("hold 1") is for log lines.
 * `conninfo` may be NULL for libpq's own settings. Both are copied. `idle_timeout_ms`: the server ends a session whose
 * transaction has been idle for so long; 0 for a connection without transactions. With one, each session begins by
 * preparing the statements of holds, unless `mode` (which must outlive the connection) forbids it. Nothing is sent
 * before connection_open().
 */
struct connection *connection_new(uv_loop_t *loop, const char *name, const char *conninfo, int64_t idle_timeout_ms,
                                  struct session_mode *mode, const struct connection_events *events, void *owner);

/* connection_open(connection): starts connecting, if it isn't connected or trying to already. */
void connection_open(struct connection *connection);

/* connection_fail(connection, reason): gives the session up (the server rolls back), calls down(), tries again later.
 */
void connection_fail(struct connection *connection, const char *reason);

/*
 * connection_works(connection): it has been of use: the next loss is logged again, and starts with short waits. To be
 * said when something was committed; that statements are answered proves little.
 */
void connection_works(struct connection *connection);

/* connection_close(connection): ends the session without calling anybody; connection_open() begins another. */
void connection_close(struct connection *connection);

/* connection_free(connection): closes at once, without calling anybody. NULL is allowed. */
void connection_free(struct connection *connection);

/* connection_is_up(connection): between up() and down(). */
bool connection_is_up(const struct connection *connection);

/* connection_is_unicode(connection): whether the database takes any text that is valid UTF-8. Only while it is up. */
bool connection_is_unicode(const struct connection *connection);

/*
 * connection_send(connection, statement, parameters): puts a statement into the pipeline; `parameters` may be NULL and
 * are copied. Failures are told through down(), later. Only while the connection is up.
 */
void connection_send(struct connection *connection, enum statement statement, const struct parameters *parameters);

/* connection_begin(connection): BEGIN, and in a shared session the settings that are to hold in the transaction. */
void connection_begin(struct connection *connection);

/* connection_sync(connection): ends the act and sends it. */
void connection_sync(struct connection *connection);

/* result_failed(result): whether it is an error (skipped statements count). result_is_cause: an error of its own. */
bool result_failed(const PGresult *result);
bool result_is_cause(const PGresult *result);

#endif
