#ifndef PGQ_CONNECTION_STATE_H
#define PGQ_CONNECTION_STATE_H

#include "connection.h"

/*
 * What a connection is made of: for its two files only. connection.c has how sessions begin and end, connection_acts.c
 * what is sent in them and answered.
 */

enum { REASON_SIZE = 1024 };

/* What the answers that are still to come belong to: a statement, or the end of an act. */
enum { EXPECT_SYNC = STATEMENT_COUNT };

enum state {
  STATE_CLOSED,     /* no session; the timer runs if it is to be opened again */
  STATE_CONNECTING, /* pg is being connected; the timer bounds it */
  STATE_PRELUDE,    /* connected, settings and prepared statements under way; the timer bounds it */
  STATE_UP,         /* the owner's */
};

struct connection {
  uv_loop_t *loop;
  char *name;
  char *conninfo;
  int64_t idle_timeout_ms; /* 0: no transactions */
  struct session_mode *mode;
  bool unprepared; /* this session: nothing has been prepared in it */
  const struct connection_events *events;
  void *owner;

  enum state state;
  PGconn *pg;
  uv_poll_t *poll; /* on the socket of pg; of its own memory, since a handle outlives its session by a turn */
  int poll_socket, poll_events;
  uv_timer_t timer;
  int64_t wait_ms;          /* before the next try */
  char reason[REASON_SIZE]; /* why the last session, or try, ended: the same reason is not logged twice */
  bool told;                /* a loss was logged; that it is over is to be logged, too */

  unsigned char *expected; /* ring-less queue: entries head..tail are still to be answered */
  size_t expected_head, expected_tail, expected_capacity;
  bool asked_who;      /* the prelude has found out whose the session is, and may go on */
  bool answered;       /* the head has had its result; its closing NULL is still to come */
  int last;            /* the statement that was answered last */
  char *prelude_error; /* first error of the prelude */
};

/* In connection.c. Waits for these events on the socket. */
void connection_poll(struct connection *connection, int events);

/* A session cannot be had: it is tried again later. */
void connection_cannot_connect(struct connection *connection, const char *reason);

/* Something could not be sent: that is told later, from the loop, as any other loss is. */
void connection_fail_soon(struct connection *connection);

/* In connection_acts.c. The first act of a session, after which it is up. */
void connection_begin_prelude(struct connection *connection);

/* Sends what libpq has collected, and asks the loop for the rest. */
void connection_flush(struct connection *connection);

/* Hand out all answers, and notifications, that are there. Whoever is called may give the connection up: then `pg`
 * changes. */
void connection_take_answers(struct connection *connection);
void connection_take_notifications(struct connection *connection);

#endif
