#include "top_keys.h"

#include <curses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duration.h"
#include "jobs.h"
#include "memory.h"
#include "top_rows.h"

enum { KEY_ESCAPE = 27, KEY_TAB = '\t', KEY_DELETE = 127, KEY_CONTROL_C = 3, KEY_CONTROL_H = 8, KEY_CONTROL_L = 12 };

static bool is_enter(int key) {
  return key == '\n' || key == '\r' || key == KEY_ENTER;
}

static bool is_backspace(int key) {
  return key == KEY_BACKSPACE || key == KEY_DELETE || key == KEY_CONTROL_H;
}

/* ── which view ── */

static void push(struct top *top, struct top_view *view) {
  if (!view)
    return;
  if (top->depth == TOP_DEPTH_MOST) {
    top_view_free(view);
    return;
  }
  top->stack[top->depth++] = view;
  top->is_wanted = true;
}

static void pop(struct top *top) {
  struct top_view *view = top_view(top);
  if (top->depth == 1)
    return;
  if (top->asked == view) {
    top_session_forget(top->session);
    top->asked = NULL;
  }
  top_view_free(view);
  top->depth--;
  top->is_wanted = true;
}

static void show_list(struct top *top, int number) {
  while (top->depth > 1)
    pop(top);
  top->stack[0] = top->lists[number];
  top->is_wanted = true;
}

static int find_list(const struct top *top) {
  int number = 0;
  while (top->lists[number] != top->stack[0])
    number++;
  return number;
}

static void open_errors(struct top *top) {
  const struct top_view *view = top_view(top);
  if (view->kind != TOP_QUEUES || view->count == 0)
    return;
  struct top_view *errors = top_view_new(TOP_ERRORS);
  errors->queue = memory_text(view->key);
  push(top, errors);
}

/* ── which rows ── */

/* Reads the part of the list from `offset` on. */
static void show_part(struct top *top, int64_t offset, enum top_landing landing) {
  struct top_view *view = top_view(top);
  view->offset = offset > 0 ? offset : 0;
  view->landing = landing;
  top->is_wanted = true;
}

/* Whether other parts of the list can be read: several states in one list, and errors, are read from the begin only. */
static bool has_parts(const struct top_view *view) {
  return view->kind != TOP_ERRORS && !(view->kind == TOP_JOBS && view->state == TOP_EVERY_STATE);
}

/* Selects the row that is `step` rows further; beyond the rows that were read, those that follow are read. */
static void move_by(struct top *top, int step) {
  struct top_view *view = top_view(top);
  int wanted = view->selected + step;
  if (!top_view_is_list(view)) {
    view->first += step; /* drawing limits it */
    return;
  }
  if (view->landing != TOP_LAND_ON_KEY) /* another part is on its way */
    return;
  bool at_end = view->selected == view->count - 1 || view->count == 0, at_begin = view->selected == 0;
  if (step > 0 && at_end && view->has_more && has_parts(view))
    show_part(top, view->offset + TOP_PART, TOP_LAND_ON_FIRST);
  else if (step > 0 && at_end && view->has_more)
    snprintf(top->hint, sizeof top->hint, "there are more: choose a state with t to see them");
  else if (step < 0 && at_begin && view->offset > 0)
    show_part(top, view->offset - TOP_PART, TOP_LAND_ON_LAST);
  else
    top_rows_select(view, wanted);
}

static void page_by(struct top *top, int direction) {
  struct top_view *view = top_view(top);
  if (top_view_is_list(view))
    view->first += direction * top->height; /* drawing limits it */
  if (view->first < 0)
    view->first = 0;
  move_by(top, direction * top->height);
}

static void go_to_end(struct top *top, bool first) {
  struct top_view *view = top_view(top);
  if (!top_view_is_list(view))
    view->first = first ? 0 : view->count;
  else if (first && view->offset > 0)
    show_part(top, 0, TOP_LAND_ON_FIRST);
  else
    top_rows_select(view, first ? 0 : view->count - 1);
  if (view->kind == TOP_WORKERS)
    top->is_wanted = true;
}

static void change_state(struct top *top, int step) {
  struct top_view *view = top_view(top);
  if (view->kind != TOP_JOBS || view->pattern)
    return;
  view->state += step;
  view->state = view->state < TOP_EVERY_STATE ? JOBS_STATES - 1
                : view->state == JOBS_STATES  ? TOP_EVERY_STATE
                                              : view->state;
  show_part(top, 0, TOP_LAND_ON_FIRST);
}

static void reverse(struct top_view *view) {
  view->is_descending = !view->is_descending;
  top_rows_arrange(view);
}

/* ── filter and interval ── */

static void set_filter(struct top *top, const char *filter) {
  struct top_view *view = top_view(top);
  snprintf(view->filter, sizeof view->filter, "%s", filter);
  if (view->has_rows)
    top_rows_arrange(view);
  if (view->offset > 0)
    show_part(top, 0, TOP_LAND_ON_FIRST);
  top->is_wanted = true;
}

/* Changes a text as one who types expects it. Returns whether the key was about the text. */
static bool edit(char *text, size_t size, int key) {
  size_t length = strlen(text);
  if (is_backspace(key) && length > 0) {
    while (length > 0 && (text[--length] & 0xc0) == 0x80)
      continue; /* bytes of one character */
    text[length] = '\0';
    return true;
  }
  if (key < ' ' || key > 255 || key == KEY_DELETE || length + 1 >= size)
    return false;
  text[length] = (char)key;
  text[length + 1] = '\0';
  return true;
}

static void follow_in_filter(struct top *top, int key) {
  char text[TOP_FILTER_SIZE];
  snprintf(text, sizeof text, "%s", top_view(top)->filter);
  if (edit(text, sizeof text, key)) {
    set_filter(top, text);
    return;
  }
  if (key == KEY_ESCAPE)
    set_filter(top, "");
  if (key == KEY_ESCAPE || is_enter(key))
    top->mode = TOP_MODE_VIEW;
}

static void set_interval(struct top *top, int64_t ms) {
  top->interval_ms = ms < TOP_INTERVAL_LEAST_MS  ? TOP_INTERVAL_LEAST_MS
                     : ms < TOP_INTERVAL_MOST_MS ? ms
                                                 : TOP_INTERVAL_MOST_MS;
  top->is_wanted = !top->is_paused;
}

/* One step of + or -. */
static void change_interval(struct top *top, int direction) {
  static const int64_t steps_ms[] = {100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000, 300000, 600000, 3600000};
  enum { STEPS = sizeof steps_ms / sizeof steps_ms[0] };
  int64_t ms = top->interval_ms;
  if (direction > 0) {
    for (int i = STEPS - 1; i >= 0 && steps_ms[i] > top->interval_ms; i--)
      ms = steps_ms[i];
  } else {
    for (int i = 0; i < STEPS && steps_ms[i] < top->interval_ms; i++)
      ms = steps_ms[i];
  }
  set_interval(top, ms);
}

static void follow_in_interval(struct top *top, int key) {
  const char *problem;
  int64_t ms;
  if (edit(top->input, sizeof top->input, key))
    return;
  if (is_enter(key) && duration_parse_days(top->input, strlen(top->input), &ms, &problem) != 0)
    snprintf(top->hint, sizeof top->hint, "'%.20s' %s; write 2s or 500ms", top->input, problem);
  else if (is_enter(key))
    set_interval(top, ms);
  if (is_enter(key) || key == KEY_ESCAPE)
    top->mode = TOP_MODE_VIEW;
}

static void ask_interval(struct top *top) {
  top->input[0] = '\0';
  top->mode = TOP_MODE_INTERVAL;
}

/* ── keys ── */

static void go_back(struct top *top) {
  if (*top_view(top)->filter)
    set_filter(top, "");
  else
    pop(top);
}

static void pause_or_go_on(struct top *top) {
  top->is_paused = !top->is_paused;
  top->is_wanted = !top->is_paused;
}

static void follow_in_list(struct top *top, int key) {
  struct top_view *view = top_view(top);
  if (!top_view_is_list(view))
    return;
  if (is_enter(key) && view->count > 0)
    push(top, top_view_open(view));
  else if ((key == 's' || key == '>') && view->has_rows)
    top_rows_sort(view, 1);
  else if (key == '<' && view->has_rows)
    top_rows_sort(view, -1);
  else if (key == 'S' && view->has_rows)
    reverse(view);
  else if (key == '/')
    top->mode = TOP_MODE_FILTER;
  else if (key == 't' || key == 'T')
    change_state(top, key == 't' ? 1 : -1);
  else if (key == 'e')
    open_errors(top);
}

static void follow_movement(struct top *top, int key) {
  if (key == KEY_UP || key == 'k')
    move_by(top, -1);
  else if (key == KEY_DOWN || key == 'j')
    move_by(top, 1);
  else if (key == KEY_PPAGE || key == KEY_NPAGE)
    page_by(top, key == KEY_NPAGE ? 1 : -1);
  else
    go_to_end(top, key == KEY_HOME || key == 'g');
  if (top_view(top)->kind == TOP_WORKERS)
    top->is_wanted = true; /* what the selected worker runs */
}

static void follow_in_view(struct top *top, int key) {
  if (key == 'q' || key == 'Q' || key == KEY_CONTROL_C)
    top->is_over = true;
  else if (key >= '1' && key < '1' + TOP_LISTS)
    show_list(top, key - '1');
  else if (key == KEY_TAB || key == KEY_BTAB)
    show_list(top, (find_list(top) + (key == KEY_TAB ? 1 : TOP_LISTS - 1)) % TOP_LISTS);
  else if (key == KEY_ESCAPE || is_backspace(key) || key == KEY_LEFT)
    go_back(top);
  else if (key == '?' || key == 'h' || key == KEY_F(1))
    top->mode = TOP_MODE_HELP;
  else if (key == ' ' || key == 'p')
    pause_or_go_on(top);
  else if (key == 'r' || key == KEY_CONTROL_L)
    top->is_wanted = true;
  else if (key == '+' || key == '-')
    change_interval(top, key == '+' ? 1 : -1);
  else if (key == 'd')
    ask_interval(top);
  else if (key == KEY_UP || key == KEY_DOWN || key == KEY_PPAGE || key == KEY_NPAGE || key == KEY_HOME ||
           key == KEY_END || key == 'j' || key == 'k' || key == 'g' || key == 'G')
    follow_movement(top, key);
  else
    follow_in_list(top, key == KEY_RIGHT ? '\n' : key);
}

static void follow(struct top *top, int key) {
  top->hint[0] = '\0';
  switch (top->mode) {
  case TOP_MODE_VIEW:
    follow_in_view(top, key);
    return;
  case TOP_MODE_HELP:
    top->mode = TOP_MODE_VIEW;
    return;
  case TOP_MODE_FILTER:
    follow_in_filter(top, key);
    return;
  case TOP_MODE_INTERVAL:
    follow_in_interval(top, key);
    return;
  }
  abort();
}

bool top_keys_read(struct top *top) {
  bool any = false;
  int key;
  while (!top->is_over && (key = getch()) != ERR) {
    if (key != KEY_RESIZE)
      follow(top, key);
    any = true;
  }
  return any;
}
