#include "echo.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease.h"
#include "memory.h"

/*
 * How long one answer may take (a pooler may have no session left to lend), and all of the cleaning, in parts: after a
 * moment in which the machine stood still, one is over at once, and the answer is there before the next.
 */
enum { PART_MS = 1000, ANSWER_PARTS = 3, CLEAN_PARTS = 10 };

/* How often a pool may give the same sessions before we take them for our own, and LISTEN. */
enum { ROUNDS = 6 };

/*
 * Before the second begins passes a time of no fixed length: in a busy pool, connections that ask again at once fall
 * into step, and then each gets the same session over and over.
 */
enum { PAUSE_MS = 12 };

/* The acts of a round, and the two that end the last. Each is one act on one of the connections, and has one answer. */
enum step {
  STEP_ALONE,  /* the first asks */
  STEP_BEGIN,  /* the second begins a transaction, and asks */
  STEP_BESIDE, /* the first asks, while the second keeps its session from being lent */
  STEP_COMMIT, /* the second commits: its session is the one that came back to the pool last */
  STEP_LISTEN, /* the first listens, and asks */
  STEP_NOTIFY, /* the second says the word; the answer is that it is heard */
};

struct voice {
  struct echo *echo;
  struct connection *connection;
  int unanswered; /* acts */
};

struct echo {
  struct voice first, second;
  uv_timer_t timer; /* when it has taken too long: */
  int parts;        /* that are left */
  uv_timer_t pause;
  enum step step;
  int32_t session; /* process number of the first's; 0: not known yet */
  int32_t answer;  /* of the step */
  bool failed;     /* the step has */
  int rounds;
  bool known;    /* nothing is left to be found out or cleaned up: the second's commit ends it */
  bool listens;  /* in that session, somebody does because of us */
  bool cleaning; /* the verdict is known: shared; but first LISTEN is to be taken back */
  bool over;
  char word[48]; /* that nobody else says */
  void (*done)(void *owner, bool own);
  void *owner;
};

static void end(struct echo *echo, bool own) {
  if (echo->over)
    return;
  echo->over = true;
  uv_timer_stop(&echo->timer);
  uv_timer_stop(&echo->pause);
  echo->done(echo->owner, own);
}

/* ── the steps ── */

static void on_timer(uv_timer_t *timer);

static void allow(struct echo *echo, int parts) {
  echo->parts = parts;
  uv_timer_start(&echo->timer, on_timer, PART_MS, PART_MS);
}

static struct voice *voice_of(struct echo *echo) {
  bool first = echo->step == STEP_ALONE || echo->step == STEP_BESIDE || echo->step == STEP_LISTEN;
  return first ? &echo->first : &echo->second;
}

/* While cleaning up, UNLISTEN goes wherever the pooler sends it, by either connection, until it was there. */
static void ask(const struct echo *echo, struct connection *connection) {
  if (echo->cleaning)
    connection_send(connection, STATEMENT_ECHO_UNLISTEN, NULL);
  connection_send(connection, STATEMENT_BACKEND_PID, NULL);
}

static void say_word(const struct echo *echo, struct connection *connection) {
  struct parameters parameters = {0};
  parameters_add_text(&parameters, echo->word);
  connection_send(connection, STATEMENT_ECHO, &parameters);
  parameters_free(&parameters);
}

static void go(struct echo *echo, enum step step) {
  echo->step = step;
  echo->answer = 0;
  echo->failed = false;
  struct voice *voice = voice_of(echo);
  switch (step) {
  case STEP_BEGIN:
    connection_begin(voice->connection);
    ask(echo, voice->connection);
    break;
  case STEP_ALONE:
  case STEP_BESIDE:
    ask(echo, voice->connection);
    break;
  case STEP_COMMIT:
    connection_send(voice->connection, STATEMENT_COMMIT, NULL);
    break;
  case STEP_LISTEN:
    connection_send(voice->connection, STATEMENT_ECHO_LISTEN, NULL);
    ask(echo, voice->connection);
    break;
  case STEP_NOTIFY:
    say_word(echo, voice->connection);
    break;
  }
  voice->unanswered++;
  connection_sync(voice->connection);
  if (!echo->cleaning)
    allow(echo, ANSWER_PARTS);
}

static void clean(struct echo *echo) {
  echo->cleaning = true;
  echo->known = false;
  allow(echo, CLEAN_PARTS);
  go(echo, STEP_ALONE);
}

static void on_pause(uv_timer_t *timer) {
  struct echo *echo = timer->data;
  go(echo, connection_is_up(echo->second.connection) ? STEP_BEGIN : STEP_ALONE);
}

static void pause_a_while(struct echo *echo) {
  uv_timer_start(&echo->pause, on_pause, 1 + uv_hrtime() / 1000 % PAUSE_MS, 0);
}

/* The first's session, asked for once more: that it is another settles the matter, or while cleaning up, the same. */
static bool settles(const struct echo *echo) {
  return !echo->failed && (echo->answer == echo->session) == echo->cleaning;
}

static void take_alone(struct echo *echo) {
  if (echo->session == 0) {
    echo->session = echo->answer;
    connection_open(echo->second.connection); /* it begins when it is up */
  } else if (settles(echo)) {
    end(echo, false);
  } else if (!echo->cleaning && ++echo->rounds == ROUNDS) {
    go(echo, STEP_LISTEN);
  } else {
    pause_a_while(echo);
  }
}

static void take_begin(struct echo *echo) {
  echo->known = !echo->failed && echo->answer == echo->session;
  go(echo, echo->known ? STEP_COMMIT : STEP_BESIDE);
}

/* A second that is lost has no transaction either. */
static void commit(struct echo *echo) {
  if (connection_is_up(echo->second.connection))
    go(echo, STEP_COMMIT);
  else if (echo->known)
    end(echo, false);
  else
    pause_a_while(echo);
}

static void take_commit(struct echo *echo) {
  if (echo->known && !echo->failed)
    end(echo, false);
  else
    go(echo, STEP_ALONE);
}

/* Where LISTEN was said is known now. */
static void take_listen(struct echo *echo) {
  bool same = echo->answer == echo->session;
  echo->session = echo->answer;
  echo->listens = true;
  if (echo->cleaning || !same)
    clean(echo);
  else
    go(echo, STEP_NOTIFY);
}

static void take(struct echo *echo) {
  if (echo->failed && !echo->listens) {
    end(echo, false);
    return;
  }
  switch (echo->step) {
  case STEP_ALONE:
    take_alone(echo);
    break;
  case STEP_BEGIN:
    take_begin(echo);
    break;
  case STEP_BESIDE:
    echo->known = settles(echo);
    commit(echo);
    break;
  case STEP_COMMIT:
    take_commit(echo);
    break;
  case STEP_LISTEN:
    take_listen(echo);
    break;
  case STEP_NOTIFY:
    if (echo->failed)
      clean(echo);
    break;
  }
}

/* No answer: whose session it is has not been shown. Where LISTEN was said, or will have been, it is taken back. */
static void give_up(struct echo *echo) {
  if (echo->cleaning || (!echo->listens && echo->step != STEP_LISTEN)) {
    end(echo, false);
  } else if (echo->listens) {
    clean(echo);
  } else {
    echo->cleaning = true;
    allow(echo, CLEAN_PARTS);
  }
}

void echo_stop(struct echo *echo) {
  if (!echo->cleaning)
    give_up(echo);
}

static void on_timer(uv_timer_t *timer) {
  struct echo *echo = timer->data;
  if (--echo->parts == 0)
    give_up(echo);
}

/* ── what the connections tell ── */

static void on_up(void *owner) {
  struct voice *voice = owner;
  go(voice->echo, voice == &voice->echo->first ? STEP_ALONE : STEP_BEGIN);
}

/* The first's session is gone with it, or nobody knows where it was; without the second, the first cleans up alone. */
static void on_down(void *owner, const char *reason) {
  struct voice *voice = owner;
  struct echo *echo = voice->echo;
  (void)reason;
  connection_close(voice->connection);
  voice->unanswered = 0;
  if (voice == &echo->first)
    end(echo, false);
  else if (!echo->listens && !echo->cleaning)
    give_up(echo);
  else if (echo->listens && (voice_of(echo) == voice || !echo->cleaning))
    clean(echo);
}

static void on_result(void *owner, enum statement statement, PGresult *result) {
  struct voice *voice = owner;
  struct echo *echo = voice->echo;
  if (voice->unanswered > 1 || voice != voice_of(echo))
    return;
  if (result_failed(result))
    echo->failed = true;
  else if (statement == STATEMENT_BACKEND_PID)
    echo->answer = result_i32(result, 0, 0);
}

static void on_synced(void *owner) {
  struct voice *voice = owner;
  struct echo *echo = voice->echo;
  if (--voice->unanswered == 0 && voice == voice_of(echo) && !echo->over)
    take(echo);
}

static void on_notified(void *owner, const char *channel, const char *payload) {
  struct voice *voice = owner;
  struct echo *echo = voice->echo;
  (void)channel;
  if (strcmp(payload, echo->word) != 0 || echo->cleaning || echo->over)
    return;
  if (voice == &echo->first)
    end(echo, true);
  else
    clean(echo);
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
  allow(echo, ANSWER_PARTS);
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
