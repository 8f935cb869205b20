#include "echo.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lease.h"
#include "memory.h"

/* How long to wait for the connection and for what it says: a pooler may have no session left to lend. */
enum { TRY_MS = 2000 };

struct echo {
  struct connection *connection;
  uv_timer_t timer;
  char word[48]; /* that nobody else says */
  bool over;
  void (*done)(void *owner, bool heard);
  void *owner;
};

static void end(struct echo *echo, bool heard) {
  if (echo->over)
    return;
  echo->over = true;
  uv_timer_stop(&echo->timer);
  echo->done(echo->owner, heard);
}

static void on_up(void *owner) {
  struct echo *echo = owner;
  struct parameters parameters = {0};
  parameters_add_text(&parameters, echo->word);
  connection_send(echo->connection, STATEMENT_ECHO, &parameters);
  connection_sync(echo->connection);
  parameters_free(&parameters);
}

static void on_down(void *owner, const char *reason) {
  (void)owner, (void)reason; /* the time runs out */
}

static void on_result(void *owner, enum statement statement, PGresult *result) {
  (void)statement;
  if (result_failed(result))
    end(owner, false);
}

static void on_synced(void *owner) {
  (void)owner;
}

/* The word comes in here: this is the session in which the other said LISTEN. */
static void on_notified(void *owner, const char *payload) {
  struct echo *echo = owner;
  if (strcmp(payload, echo->word) == 0)
    end(echo, false);
}

static void on_timer(uv_timer_t *timer) {
  end(timer->data, false);
}

static const struct connection_events connection_events = {on_up, on_down, on_result, on_synced, on_notified};

struct echo *echo_new(uv_loop_t *loop, const char *conninfo, struct session_mode *mode,
                      void (*done)(void *owner, bool heard), void *owner) {
  struct echo *echo = memory_new(sizeof *echo);
  echo->done = done;
  echo->owner = owner;
  snprintf(echo->word, sizeof echo->word, "echo %" PRId64, lease_token(1));
  uv_timer_init(loop, &echo->timer);
  echo->timer.data = echo;
  uv_timer_start(&echo->timer, on_timer, TRY_MS, 0);
  echo->connection = connection_new(loop, "echo", conninfo, 0, mode, &connection_events, echo);
  connection_open(echo->connection);
  return echo;
}

void echo_heard(struct echo *echo, const char *payload) {
  if (strcmp(payload, echo->word) == 0)
    end(echo, true);
}

static void free_echo(uv_handle_t *timer) {
  free(timer->data);
}

void echo_free(struct echo *echo) {
  if (!echo)
    return;
  connection_free(echo->connection);
  uv_close((uv_handle_t *)&echo->timer, free_echo);
}
