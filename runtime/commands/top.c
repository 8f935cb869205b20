#include "top.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "refusal.h"
#include "top_keys.h"
#include "top_paint.h"
#include "top_screen.h"
#include "top_state.h"
#include "top_terminal.h"

/* The columns of top.sql. */
enum column {
  COLUMN_DATABASE,
  COLUMN_NOW,
  COLUMN_WORKERS,
  COLUMN_SILENT,
  COLUMN_EXECUTORS,
  COLUMN_BUSY,
  COLUMN_IN_FLIGHT,
  COLUMN_DONE,
  COLUMN_FAILED,
  COLUMN_SINCE,
};

/* Of the time, at most a part in ASKED_PART is spent with asking: a slow server is asked less often. */
enum { ASKED_PART = 4, TICK_MS = 1000 };

#define SET(field, column) snprintf(field, sizeof(field), "%s", PQgetvalue(result, 0, column))

static void take_summary(struct top_summary *summary, const PGresult *result) {
  SET(summary->database, COLUMN_DATABASE);
  SET(summary->now, COLUMN_NOW);
  SET(summary->workers, COLUMN_WORKERS);
  SET(summary->silent, COLUMN_SILENT);
  SET(summary->executors, COLUMN_EXECUTORS);
  SET(summary->busy, COLUMN_BUSY);
  SET(summary->in_flight, COLUMN_IN_FLIGHT);
  SET(summary->done, COLUMN_DONE);
  SET(summary->failed, COLUMN_FAILED);
  SET(summary->since, COLUMN_SINCE);
  summary->is_known = true;
}

/* After an answer or a refusal: when to ask again. */
static void schedule(struct top *top) {
  int64_t rest_ms = (ASKED_PART - 1) * top_session_took_ms(top->session);
  top->ask_at_ms = clock_ms() + (rest_ms > top->interval_ms ? rest_ms : top->interval_ms);
}

static void take_answer(struct top *top) {
  const struct top_answer *answer = top_session_answer(top->session);
  struct top_view *view = top->asked;
  top->trouble[0] = '\0';
  take_summary(&top->summary, answer->results[0]);
  top_view_take(view, answer, top_screen_width());
  if (top_view_is_list(view) && view->rows.rows == 0 && view->offset > 0) { /* the list has become shorter */
    view->offset = 0;
    view->landing = TOP_LAND_ON_FIRST;
    top->is_wanted = true;
  }
}

static void follow_event(struct top *top, enum top_event event) {
  switch (event) {
  case TOP_NOTHING:
    return;
  case TOP_CONNECTED:
    top->has_connected = true;
    top->lost_at_ms = 0;
    top->is_wanted = true;
    return;
  case TOP_ANSWERED:
    take_answer(top);
    schedule(top);
    break;
  case TOP_REFUSED:
    snprintf(top->trouble, sizeof top->trouble, "%s", top_session_error(top->session));
    schedule(top);
    break;
  case TOP_LOST:
    top->lost_at_ms = top->lost_at_ms ? top->lost_at_ms : clock_ms();
    break;
  }
  top->asked = NULL;
}

/* Goes on with the session, and asks if it is time. Returns whether anything has happened. */
static bool go_on(struct top *top) {
  bool has_changed = false;
  enum top_event event;
  while ((event = top_session_step(top->session)) != TOP_NOTHING) {
    follow_event(top, event);
    has_changed = true;
  }
  bool is_time = top->is_wanted || (!top->is_paused && clock_ms() >= top->ask_at_ms);
  if (is_time && top_session_state(top->session) == TOP_IDLE) {
    top->is_wanted = false;
    top->asked = top_view(top);
    top_session_ask(top->session, top_view_question(top->asked));
  }
  return has_changed;
}

/* How long to wait for keys and the server. The line with the state of the session shows seconds. */
static int64_t left_ms(const struct top *top) {
  int64_t session_ms = top_session_left_ms(top->session), ms = TICK_MS;
  if (session_ms >= 0 && session_ms < ms)
    ms = session_ms;
  if (top_session_state(top->session) == TOP_IDLE && !top->is_paused && top->ask_at_ms - clock_ms() < ms)
    ms = top->ask_at_ms - clock_ms();
  return ms > 0 ? ms : 0;
}

/* Whether the first connection is given up: the mistake is in the options then, or the server is not there. */
static bool has_given_up(const struct top *top, int64_t until_ms) {
  return !top->has_connected && top_session_state(top->session) == TOP_WAITING && clock_ms() >= until_ms;
}

static void run(struct top *top) {
  int64_t until_ms = clock_ms() + top->options->connect_timeout_ms, drawn_ms = 0;
  bool has_changed = true;
  while (!top->is_over && !has_given_up(top, until_ms)) {
    if (has_changed || clock_ms() - drawn_ms >= TICK_MS) {
      top_screen_draw(top);
      drawn_ms = clock_ms();
    }
    if (!top_terminal_wait(top_session_poll(top->session), left_ms(top)))
      return;
    bool was_resized = top_terminal_was_changed();
    top->is_wanted |= was_resized && !top_view_is_list(top_view(top)); /* texts have the width of the screen */
    has_changed = top_keys_read(top) || was_resized;
    has_changed |= go_on(top);
  }
}

static void start(struct top *top, const struct options *options) {
  *top = (struct top){.options = options, .interval_ms = options->interval_ms, .depth = 1};
  for (int i = 0; i < TOP_LISTS; i++)
    top->lists[i] = top_view_new((enum top_kind)i);
  top->stack[0] = top->lists[TOP_QUEUES];
  top->session = top_session_new(options);
}

static void end(struct top *top) {
  while (top->depth > 1)
    top_view_free(top->stack[--top->depth]);
  for (int i = 0; i < TOP_LISTS; i++)
    top_view_free(top->lists[i]);
  top_session_free(top->session);
}

/* Ends as the signal ends a program, except for SIGINT, the other key for quitting. */
static void end_by(int number) {
  sigset_t set;
  if (number == 0 || number == SIGINT)
    return;
  sigemptyset(&set);
  sigaddset(&set, number);
  signal(number, SIG_DFL);
  raise(number);
  sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int top_command(const struct options *options, int argc, char **argv) {
  struct top top;
  if (argc > 0)
    return refuse("top", "top [options]", "unexpected argument '%.100s'", argv[0]);
  if (top_terminal_open() != 0)
    return 2;
  top_paint_styles();
  start(&top, options);
  run(&top);
  top_terminal_close();
  bool failed = !top.has_connected && !top.is_over && top_terminal_signal() == 0;
  if (failed)
    fprintf(stderr, "pgq-lua top: %s\n", top_session_error(top.session));
  end(&top);
  end_by(top_terminal_signal());
  return failed ? 1 : 0;
}
