#ifndef PGQ_TOP_SESSION_H
#define PGQ_TOP_SESSION_H

#include <libpq-fe.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "options.h"

/*
 * The session of `pgq-lua top`. It never blocks: the caller waits for its socket beside the keyboard, and calls
 * top_session_step(). A question is a short transaction that only reads, whose statements are asked one after the
 * other. A lost session is connected again, after waits that grow.
 *
 *     TOP_WAITING ◄──────────── lost, or no connection ──────────┐
 *         │ after the wait                                       │
 *     TOP_CONNECTING ──► TOP_IDLE ── top_session_ask() ──► TOP_ASKING
 *                           ▲                                    │
 *                           └────── answered, or refused ────────┘
 */
struct top_session;

enum top_session_state { TOP_WAITING, TOP_CONNECTING, TOP_IDLE, TOP_ASKING };

/* A statement with its parameters as texts; NULL is null. The texts need to live only until the function that has
 * filled it in returns to the session and is called again. */
struct top_statement {
  const char *sql;
  int count;
  const char *values[16];
};

/* The results of a question's statements, in their order. */
enum { TOP_RESULTS = 12 };
struct top_answer {
  PGresult *results[TOP_RESULTS];
  int count;
};

struct top_question {
  /* Sets the next statement, after the ones that `answer` has the results of. Returns false if there is none. */
  bool (*next)(void *context, const struct top_answer *answer, struct top_statement *statement);
  void *context;
  const char *needs; /* the privileges that the statements need: see struct transaction */
};

enum top_event {
  TOP_NOTHING,
  TOP_CONNECTED,
  TOP_ANSWERED, /* top_session_answer() has the results */
  TOP_REFUSED,  /* a statement has failed: top_session_error() says why; the session goes on */
  TOP_LOST,     /* there is no session; top_session_error() says why */
};

/* top_session_new(options): begins to connect to the database of --db. top_session_free(session): ends the session at
 * once; the server ends its transaction. NULL is allowed. */
struct top_session *top_session_new(const struct options *options);
void top_session_free(struct top_session *session);

/* top_session_ask(session, question): begins a question, in the state TOP_IDLE. The results of the last one are freed.
 */
void top_session_ask(struct top_session *session, struct top_question question);

/* top_session_forget(session): the context of the question is about to vanish: its answer is thrown away. */
void top_session_forget(struct top_session *session);

/* top_session_step(session): goes on as far as that is possible without blocking. To be called when the socket is ready
 * or the time is over, until it returns TOP_NOTHING. */
enum top_event top_session_step(struct top_session *session);

/* top_session_poll(session): what to wait for; the descriptor is -1 for nothing. top_session_left_ms(session): for how
 * long at most; -1: without limit. */
struct pollfd top_session_poll(const struct top_session *session);
int64_t top_session_left_ms(const struct top_session *session);

enum top_session_state top_session_state(const struct top_session *session);
const struct top_answer *top_session_answer(const struct top_session *session);

/* top_session_took_ms(session): how long the last question took; the present one, in the state TOP_ASKING. */
int64_t top_session_took_ms(const struct top_session *session);

/* top_session_error(session): why the last statement or the last connection failed, as one line without
 * hidden characters; "" if it did not. */
const char *top_session_error(const struct top_session *session);

/* top_session_host(session): the host of the session, or the folder of its socket; "" before the first one. */
const char *top_session_host(const struct top_session *session);

#endif
