#include "echo.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease.h"
#include "memory.h"

/* How long it may all take: a pooler may have no session left to lend. */
enum { TRY_MS = 3000, CLEAN_MS = 3000 };

/* How often the first connection asks where it is, while the second keeps a session busy. */
enum { ASK_TIMES = 8 };

/*
 * Between two questions passes a time of no fixed length: in a busy pool, connections that ask again at once fall into
 * step, and then each gets the same session over and over.
 */
enum { PAUSE_MS = 12 };

struct voice {
  struct echo *echo;
  struct connection *connection;
};

struct echo {
  struct voice first, second;
  uv_timer_t timer; /* when it has taken too long */
  uv_timer_t pause;
  int32_t session; /* process number of the first's */
  int asked;
  bool listening; /* LISTEN was sent, and has no answer */
  bool listens;   /* in that session, somebody does because of us */
  char word[48];  /* that nobody else says */
  bool cleaning;  /* the verdict is known: shared */
  bool over;
  void (*done)(void *owner, bool own);
  void *owner;
};

static void on_timer(uv_timer_t *timer);

static void end(struct echo *echo, bool own) {
  if (echo->over)
    return;
  echo->over = true;
  uv_timer_stop(&echo->timer);
  uv_timer_stop(&echo->pause);
  echo->done(echo->owner, own);
}

/* LISTEN was said, and the session is not ours: UNLISTEN goes wherever the pooler sends it, until it was there. */
static void clean(struct echo *echo) {
  connection_send(echo->first.connection, STATEMENT_ECHO_UNLISTEN, NULL);
  connection_send(echo->first.connection, STATEMENT_WHO, NULL);
  connection_sync(echo->first.connection);
}

static void end_shared(struct echo *echo) {
  if (echo->over || echo->cleaning)
    return;
  if ((!echo->listens && !echo->listening) || !connection_is_up(echo->first.connection)) {
    end(echo, false);
    return;
  }
  echo->cleaning = true;
  connection_close(echo->second.connection); /* it may have a session that is wanted */
  uv_timer_start(&echo->timer, on_timer, CLEAN_MS, 0);
  uv_timer_stop(&echo->pause);
  if (!echo->listening)
    clean(echo);
}

static void say(struct voice *voice, enum statement statement, const struct parameters *parameters) {
  connection_send(voice->connection, statement, parameters);
  connection_sync(voice->connection);
}

static void notify(struct echo *echo) {
  struct parameters parameters = {0};
  parameters_add_text(&parameters, echo->word);
  connection_send(echo->second.connection, STATEMENT_COMMIT, NULL);
  connection_sync(echo->second.connection);
  say(&echo->second, STATEMENT_ECHO, &parameters);
  parameters_free(&parameters);
}

static void on_pause(uv_timer_t *timer) {
  struct echo *echo = timer->data;
  if (echo->cleaning) {
    clean(echo);
  } else if (echo->asked < ASK_TIMES) {
    say(&echo->first, STATEMENT_WHO, NULL);
  } else {
    echo->listening = true;
    connection_send(echo->first.connection, STATEMENT_ECHO_LISTEN, NULL);
    say(&echo->first, STATEMENT_WHO, NULL);
  }
}

static void pause_a_while(struct echo *echo) {
  uv_timer_start(&echo->pause, on_pause, 1 + uv_hrtime() / 1000 % PAUSE_MS, 0);
}

/* Where LISTEN was said is known now. */
static void take_listening(struct echo *echo, int32_t session) {
  bool same = session == echo->session;
  echo->listening = false;
  echo->listens = true;
  echo->session = session;
  if (echo->cleaning)
    clean(echo);
  else if (same)
    notify(echo);
  else
    end_shared(echo);
}

/* The first's answer: the first time it counts, and the others have to be the same. */
static void take_first(struct echo *echo, int32_t session) {
  if (echo->listening) {
    take_listening(echo, session);
  } else if (echo->cleaning && session == echo->session) {
    end(echo, false);
  } else if (echo->asked++ == 0) {
    echo->session = session;
    connection_open(echo->second.connection);
  } else if (session != echo->session && !echo->cleaning) {
    end_shared(echo);
  } else {
    pause_a_while(echo);
  }
}

static void take_second(struct echo *echo, int32_t session) {
  if (session == echo->session)
    end_shared(echo);
  else
    pause_a_while(echo);
}

static void on_up(void *owner) {
  struct voice *voice = owner;
  if (voice == &voice->echo->second)
    connection_begin(voice->connection);
  say(voice, STATEMENT_WHO, NULL);
}

static void on_down(void *owner, const char *reason) {
  struct voice *voice = owner;
  (void)reason;
  end(voice->echo, false); /* what its session knew is gone with it */
}

static void on_result(void *owner, enum statement statement, PGresult *result) {
  struct voice *voice = owner;
  struct echo *echo = voice->echo;
  if (echo->over)
    return;
  if (result_failed(result))
    end(echo, false);
  else if (statement == STATEMENT_WHO && voice == &echo->first)
    take_first(echo, result_i32(result, 0, 0));
  else if (statement == STATEMENT_WHO)
    take_second(echo, result_i32(result, 0, 0));
}

static void on_synced(void *owner) {
  (void)owner;
}

static void on_notified(void *owner, const char *channel, const char *payload) {
  struct voice *voice = owner;
  (void)channel;
  struct echo *echo = voice->echo;
  if (strcmp(payload, echo->word) != 0 || echo->cleaning)
    return;
  if (voice == &echo->first)
    end(echo, true);
  else
    end_shared(echo);
}

static void on_timer(uv_timer_t *timer) {
  struct echo *echo = timer->data;
  if (echo->cleaning)
    end(echo, false);
  else
    end_shared(echo);
}

static const struct connection_events connection_events = {on_up, on_down, on_result, on_synced, on_notified};

static void make_voice(struct echo *echo, struct voice *voice, uv_loop_t *loop, const char *conninfo,
                       struct session_mode *mode) {
  voice->echo = echo;
  voice->connection = connection_new(loop, "echo", conninfo, 0, mode, &connection_events, voice);
}

struct echo *echo_new(uv_loop_t *loop, const char *conninfo, struct session_mode *mode,
                      void (*done)(void *owner, bool own), void *owner) {
  struct echo *echo = memory_new(sizeof *echo);
  echo->done = done;
  echo->owner = owner;
  snprintf(echo->word, sizeof echo->word, "echo %" PRId64, lease_token(1));
  uv_timer_init(loop, &echo->timer);
  uv_timer_init(loop, &echo->pause);
  echo->timer.data = echo->pause.data = echo;
  uv_timer_start(&echo->timer, on_timer, TRY_MS, 0);
  make_voice(echo, &echo->first, loop, conninfo, mode);
  make_voice(echo, &echo->second, loop, conninfo, mode);
  connection_open(echo->first.connection);
  return echo;
}

static void free_echo(uv_handle_t *timer) {
  free(timer->data);
}

/* One after the other: the last one takes the memory along. */
static void close_timer(uv_handle_t *pause) {
  struct echo *echo = pause->data;
  uv_close((uv_handle_t *)&echo->timer, free_echo);
}

void echo_free(struct echo *echo) {
  if (!echo)
    return;
  uv_timer_stop(&echo->timer); /* it may be due at this moment, and is closed later */
  connection_free(echo->first.connection);
  connection_free(echo->second.connection);
  uv_close((uv_handle_t *)&echo->pause, close_timer);
}
