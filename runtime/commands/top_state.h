#ifndef PGQ_TOP_STATE_H
#define PGQ_TOP_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"
#include "top_session.h"
#include "top_view.h"

/* The state of `pgq-lua top`, which the files top*.c share. */

enum top_mode {
  TOP_MODE_VIEW,
  TOP_MODE_HELP,     /* the page of keys covers the view */
  TOP_MODE_FILTER,   /* the last line takes the text of the filter, which is applied meanwhile */
  TOP_MODE_INTERVAL, /* the last line takes the interval */
};

enum { TOP_DEPTH_MOST = 8, TOP_INTERVAL_LEAST_MS = 100, TOP_INTERVAL_MOST_MS = 3600 * 1000 };

/* What stands above all views: texts of top.sql. */
struct top_summary {
  bool is_known;
  char database[64], now[64], since[64];
  char workers[24], silent[24], executors[24], busy[24], in_flight[24], done[32], failed[32];
};

struct top {
  const struct options *options;
  struct top_session *session;
  struct top_summary summary;

  struct top_view *lists[TOP_LISTS];      /* the first views of the stack, which stay as the user has left them */
  struct top_view *stack[TOP_DEPTH_MOST]; /* the last one is shown */
  int depth;

  int64_t interval_ms;
  bool is_paused;
  bool is_wanted;     /* ask again as soon as possible */
  int64_t ask_at_ms;  /* when to ask again, otherwise */
  int64_t read_at_ms; /* when the last answer came; 0: never */
  int64_t lost_at_ms; /* since when there is no session; 0: there is one */
  bool has_connected;
  struct top_view *asked;          /* the view whose question is being asked, or NULL */
  const struct top_view *answered; /* the view that the last answer was for */
  char trouble[1024];              /* why the last question was not answered, or "" */

  enum top_mode mode;
  char input[TOP_FILTER_SIZE]; /* of TOP_MODE_INTERVAL */
  char hint[160];              /* about the last key, until the next one; or "" */
  int height;                  /* rows of the list, or lines of the text, that the screen has */
  bool is_over;
};

/* top_view(top): the view that is shown. */
static inline struct top_view *top_view(const struct top *top) {
  return top->stack[top->depth - 1];
}

#endif
