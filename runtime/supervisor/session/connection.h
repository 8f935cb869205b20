#ifndef PGQ_CONNECTION_H
#define PGQ_CONNECTION_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <uv.h>

#include "options.h"
#include "pipeline.h"
#include "statements.h"

/*
 * One connection to Postgres on the supervisor's loop, in pipeline mode. The connection reconnects by itself: when it
 * cannot connect or has lost its session, it tries again after a wait that grows from 100 ms to 10 s.
 *
 *     connection_new ─ connection_open ─► (up ─ send… sync ─► result… synced ─► down)* ─ connection_free
 *
 * The owner sends the statements of one act with connection_send() and ends the act with connection_sync(). The results
 * come in the same order through `result`, then `synced` is called once; see pipeline.h for acts that fail.
 */
struct connection;

/* `notified` may be NULL. A callback may give up or close the connection, but not free it. */
struct connection_events {
  /* The session is ready: its settings are made, its statements are prepared, and nothing is under way. */
  void (*up)(void *owner);
  /* The session was lost, and with it its transaction and all statements that were not answered. The connection tries
   * to connect again. `reason` is a message for people. */
  void (*down)(void *owner, const char *reason);
  /* The answer to one statement. The result is freed afterwards. */
  void (*result)(void *owner, enum statement statement, PGresult *result);
  /* All statements of the act have been answered. */
  void (*synced)(void *owner);
  /* A notification has come in on a channel that this session listens to; `pid` is the server process that sent it. */
  void (*notified)(void *owner, const char *channel, const char *payload, int pid);
};

/* How long a connection keeps its server session. */
enum session_kind {
  SESSION_UNKNOWN, /* no connection has asked the server yet */
  SESSION_OWN,     /* until the connection closes: settings, prepared statements, locks and LISTEN last */
  SESSION_SHARED,  /* for one transaction: then a pooler gives the session to others, so nothing may be left in it */
};

/* The last reason for which a connection of the worker could not connect or was lost, until that connection is up
 * again. connection.c writes it. */
struct session_problem {
  char text[1024];   /* "": there is none */
  const void *owner; /* the connection */
  int64_t logged_ms; /* when a problem was logged last, by clock_ms() */
  int repeated;      /* how often a problem that is not new has occurred since then */
};

/* The data that all connections of a worker share. While the kind is unknown, only one connection may be opened; it
 * finds out the kind before it is up. */
struct session_mode {
  enum session_kind kind;
  bool unprepared; /* statements are not to be prepared */
  struct session_problem problem;
  int64_t lost;       /* how many sessions were lost since the start */
  int64_t checked_ms; /* when the tables were last found to be as they have to be, by clock_ms(); 0: never */
};

/* session_mode_from_options(options): the mode that --pooler and --no-prepare ask for. */
struct session_mode session_mode_from_options(const struct options *options);

/*
 * connection_new(loop, name, conninfo, idle_timeout_ms, mode, events, owner): nothing is sent before connection_open().
 * `name` ("hold 1") is for log lines. `conninfo` may be NULL for libpq's own settings. Both are copied; `mode` and
 * `events` must outlive the connection. `idle_timeout_ms`: the server ends a session whose transaction has been idle
 * for that long; 0 for a connection without transactions. A connection with transactions prepares the statements of
 * holds at the start of each session, unless `mode` forbids it.
 */
struct connection *connection_new(uv_loop_t *loop, const char *name, const char *conninfo, int64_t idle_timeout_ms,
                                  struct session_mode *mode, const struct connection_events *events, void *owner);

/* connection_open(connection): starts connecting, unless the connection is up or trying already. */
void connection_open(struct connection *connection);

/*
 * connection_fail(connection, reason): gives the session up, if there is one: the server rolls its transaction back.
 * Calls down() if the connection was up, and connects again later.
 */
void connection_fail(struct connection *connection, const char *reason);

/*
 * connection_works(connection): the session works: its next loss is logged even if the reason is the same as before,
 * and waits are short again. The owner calls this after a commit, since a single answered statement does not prove that
 * the session works.
 */
void connection_works(struct connection *connection);

/* connection_close(connection, reason): ends the session, or the attempts to connect, without calling down(). The
 * reason is logged at level debug. connection_open() begins another session. */
void connection_close(struct connection *connection, const char *reason);

/* connection_free(connection): closes the connection without calling down(), and frees it. NULL is allowed. */
void connection_free(struct connection *connection);

/* connection_is_up(connection): whether the owner may send: true from up() to down() or connection_close(). */
bool connection_is_up(const struct connection *connection);

/* connection_database(connection): the texts are empty unless there is a session; they are valid as long as it is. */
struct database_name {
  const char *host, *port, *name, *user;
};
struct database_name connection_database(const struct connection *connection);

/* connection_is_unicode(connection): whether the database takes any valid UTF-8 text. Only while it is up. */
bool connection_is_unicode(const struct connection *connection);

/*
 * connection_send(connection, statement, parameters): puts a statement into the pipeline; `parameters` may be NULL and
 * are copied. Failures are reported later, through down(). Does nothing unless the connection is up.
 */
void connection_send(struct connection *connection, enum statement statement, const struct parameters *parameters);

/* connection_send_text(connection, statement, parameters): as connection_send(), but does not use the prepared
 * statement: once a rule has made nothing of it, Postgres does not plan it anew, even if the rule is dropped. */
void connection_send_text(struct connection *connection, enum statement statement, const struct parameters *parameters);

/* connection_ask_answer(connection): the server answers what was sent so far at once, and not only with the rest of the
 * act. */
void connection_ask_answer(struct connection *connection);

/* connection_begin(connection): sends BEGIN, and in a shared session the settings for the transaction. */
void connection_begin(struct connection *connection);

/* connection_sync(connection): ends the act, and sends it to the server. Does nothing unless the connection is up. */
void connection_sync(struct connection *connection);

#endif
