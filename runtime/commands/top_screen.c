#include "top_screen.h"

#include <curses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "duration.h"
#include "jobs.h"
#include "listing_table.h"
#include "memory.h"
#include "moment.h"
#include "queues.h"
#include "top_help.h"
#include "top_paint.h"
#include "top_terminal.h"

enum { HEADER_LINES = 3, BANNER_LINES = 3, NOTE_LINES = 3, TALL = 20, MIDDLE = 14 };

int top_screen_width(void) {
  return COLS;
}

/* ── the lines above the view ── */

/* Writes whether there is a session. Returns the style of the text. */
static enum top_style describe_session(const struct top *top, char *text, size_t size) {
  char lost[MOMENT_SIZE], left[MOMENT_SIZE];
  enum top_session_state state = top_session_state(top->session);
  if (state == TOP_WAITING || state == TOP_CONNECTING) {
    moment_span(lost, top->lost_at_ms ? (clock_ms() - top->lost_at_ms) / 1000 * 1000 : 0);
    moment_span(left, (top_session_left_ms(top->session) + 999) / 1000 * 1000);
    if (!top->has_connected)
      snprintf(text, size, "connecting");
    else if (state == TOP_CONNECTING)
      snprintf(text, size, "CONNECTION LOST %s ago, connecting", lost);
    else
      snprintf(text, size, "CONNECTION LOST %s ago, again in %s", lost, left);
    return top->has_connected ? TOP_TROUBLE : TOP_PLAIN;
  }
  if (state == TOP_ASKING && top_session_took_ms(top->session) >= 1000) {
    moment_span(left, top_session_took_ms(top->session) / 1000 * 1000);
    snprintf(text, size, "waiting for the server for %s", left);
    return TOP_WARNING;
  }
  snprintf(text, size, top->is_paused ? "connected, PAUSED" : "connected");
  return top->is_paused ? TOP_WARNING : TOP_PLAIN;
}

/* The state of the session is what must be seen; the time, then the database, go first where there is no room. */
static void draw_header(const struct top *top, bool is_old) {
  enum { TIME = 20, GAP = 2, LEAST_NAME = 12 }; /* 2026-11-30 20:28:32Z */
  char session[160], iso[MOMENT_SIZE] = "", name[400];
  enum top_style style = describe_session(top, session, sizeof session);
  int width = listing_table_columns(session), x = 0, room = COLS - width - GAP;
  top_paint(0, COLS > width ? COLS - width : 0, width, style, session);
  x += top_paint(0, x, room < 13 ? 0 : 13, TOP_BOLD, "pgq-lua top");
  room -= 13;
  if (!top->summary.is_known || room < LEAST_NAME)
    return;
  bool has_time = room >= LEAST_NAME + GAP + TIME;
  snprintf(name, sizeof name, "%s at %s", top->summary.database, top_session_host(top->session));
  x = 13 + top_paint_user(0, 13, has_time ? room - GAP - TIME : room, TOP_PLAIN, name);
  moment_iso(iso, top->summary.now);
  if (has_time)
    top_paint_format(0, x + GAP, TIME, is_old ? TOP_FADED : TOP_PLAIN, "%.10s %.8sZ", iso, iso + strlen("2026-11-30T"));
}

static void draw_summary(const struct top *top, bool is_old) {
  char iso[MOMENT_SIZE];
  const struct top_summary *summary = &top->summary;
  enum top_style plain = is_old ? TOP_FADED : TOP_PLAIN, trouble = is_old ? TOP_FADED : TOP_TROUBLE;
  if (!summary->is_known)
    return;
  int x = top_paint_format(1, 0, COLS, plain, "workers %s", summary->workers);
  if (strcmp(summary->silent, "0") != 0)
    x += top_paint_format(1, x, COLS, trouble, " (%s silent)", summary->silent);
  x += top_paint_format(1, x, COLS, plain, "  executors %s/%s busy  jobs %s  done %s/min", summary->busy,
                        summary->executors, summary->in_flight, summary->done);
  double failed = strtod(summary->failed, NULL);
  x += top_paint_format(1, x + 2, COLS, failed > 0 ? trouble : plain, "failed %.*f/min", failed > 0 && failed < 10,
                        failed);
  moment_iso(iso, summary->since);
  top_paint_format(1, x + 4, COLS, plain, "since %.5sZ", iso + strlen("2026-11-30T"));
}

static void describe_view(const struct top_view *view, char *text, size_t size) {
  const char *queue = view->queue ? view->queue : "all queues";
  const char *state = view->state == TOP_EVERY_STATE ? "in any state" : jobs_states[view->state].name;
  if (view->kind == TOP_JOB || view->kind == TOP_WORKER)
    snprintf(text, size, "%s %s", view->kind == TOP_JOB ? "job" : "worker", view->id);
  else if (view->kind == TOP_JOBS)
    snprintf(text, size, "%.200s, %s%s%s%s", queue, state, view->pattern ? ", error like '" : "",
             view->pattern ? view->pattern : "", view->pattern ? "'" : "");
  else
    snprintf(text, size, "%s", view->kind == TOP_ERRORS && view->queue ? view->queue : "");
}

static void draw_tabs(const struct top *top) {
  static const char *const titles[] = {" 1 queues ", " 2 jobs ", " 3 workers ", " 4 errors "};
  int x = 0;
  for (int i = 0; i < TOP_LISTS; i++)
    x += top_paint(2, x, COLS, top->stack[0] == top->lists[i] ? TOP_BAR : TOP_PLAIN, titles[i]);
  for (int i = 0; i < top->depth; i++) {
    char text[600];
    describe_view(top->stack[i], text, sizeof text);
    if (*text && !(i == 0 && top->depth > 1)) {
      x += top_paint(2, x, COLS, TOP_PLAIN, " > ");
      x += top_paint_user(2, x, COLS - x, i == top->depth - 1 ? TOP_BOLD : TOP_PLAIN, text);
    }
  }
}

/* ── a list ── */

static enum top_style style_of_row(const struct top_view *view, int row) {
  const char *state;
  switch (view->kind) {
  case TOP_QUEUES:
    state = listing_cell(&view->rows, row, QUEUES_STATE);
    return strcmp(state, "NO WORKER") == 0 || strcmp(state, "STARVED") == 0  ? TOP_TROUBLE
           : strcmp(state, "paused") == 0 || strcmp(state, "backs off") == 0 ? TOP_WARNING
                                                                             : TOP_PLAIN;
  case TOP_JOBS:
    state = listing_cell(&view->rows, row, JOBS_STATE);
    return strcmp(state, "failed") == 0 ? TOP_TROUBLE : strcmp(state, "cancelled") == 0 ? TOP_WARNING : TOP_PLAIN;
  case TOP_WORKERS:
    for (int i = 0; i < view->rows.count; i++)
      if (view->rows.columns[i].title && strcmp(view->rows.columns[i].title, "TROUBLE") == 0)
        return *listing_cell(&view->rows, row, i) ? TOP_TROUBLE : TOP_PLAIN;
    return TOP_PLAIN;
  case TOP_ERRORS:
  case TOP_JOB:
  case TOP_WORKER:
    return TOP_PLAIN;
  }
  abort();
}

/* The cells of a row, or the titles if the row is -1. A blank behind a title is for the mark of the order. */
static void get_cells(const struct top_view *view, int row, const char **cells, char (*titles)[32]) {
  int count;
  const struct listing_column *columns = top_view_columns(view, &count);
  for (int i = 0; i < count; i++) {
    if (row >= 0) {
      cells[i] = listing_cell(&view->rows, row, i);
      continue;
    }
    snprintf(titles[i], sizeof titles[i], "%s%s", columns[i].title ? columns[i].title : "",
             i != view->sort       ? ""
             : view->is_descending ? "▼"
                                   : "▲");
    cells[i] = titles[i];
  }
}

static void draw_row(const struct top_view *view, int y, const char *const *cells, const int *widths,
                     enum top_style style) {
  int count, x = 0;
  const struct listing_column *columns = top_view_columns(view, &count);
  top_paint_fill(y, style == TOP_BAR || style == TOP_SELECTED ? style : TOP_PLAIN);
  for (int i = 0; i < count; i++) {
    if (!listing_table_in_row(&columns[i]))
      continue;
    const char *cell = *cells[i] ? cells[i] : "-";
    int spare = widths[i] - listing_table_columns(cell);
    top_paint(y, x + (listing_table_is_right(&columns[i]) && spare > 0 ? spare : 0), widths[i], style, cell);
    x += widths[i] + LISTING_TABLE_GAP;
  }
}

/* The widths fit all rows that were read, so that the columns stay in their places while one scrolls. */
static int *fit_columns(const struct top_view *view, char (*titles)[32]) {
  int count, rows = view->rows.rows;
  const struct listing_column *columns = top_view_columns(view, &count);
  int *widths = memory_new((size_t)count * sizeof *widths);
  const char **cells = memory_new((size_t)(rows + 1) * (size_t)count * sizeof *cells);
  for (int row = -1; row < rows; row++)
    get_cells(view, row, cells + (row + 1) * count, titles);
  listing_table_fit(columns, count, cells, (size_t)rows + 1, COLS, widths);
  free(cells);
  return widths;
}

/* The notes of the selected row, and its long texts that were cut. Returns what the caller frees. */
static char *make_notes(const struct top_view *view, const int *widths) {
  char *text = NULL;
  size_t size;
  int row = view->order[view->selected];
  FILE *out = open_memstream(&text, &size);
  for (int i = 0; out && i < view->rows.count; i++) {
    const struct listing_column *column = &view->rows.columns[i];
    const char *cell = listing_cell(&view->rows, row, i);
    bool is_note = column->title && column->kind == LISTING_NOTE;
    bool is_cut = listing_table_in_row(column) && listing_table_columns(cell) > widths[i];
    if ((is_note || is_cut) && *cell)
      fprintf(out, "%s%s", ftell(out) > 0 ? "; " : "", cell);
  }
  if (out)
    fclose(out);
  return text;
}

static const char *describe_nothing(const struct top_view *view) {
  if (!view->has_rows)
    return "reading …";
  if (*view->filter)
    return "Nothing here has the text of the filter.";
  return view->kind == TOP_QUEUES    ? "There are no queues: no jobs, and no workers."
         : view->kind == TOP_JOBS    ? "There are no such jobs."
         : view->kind == TOP_WORKERS ? "No worker runs."
                                     : "No job has failed.";
}

static void scroll_to_selection(struct top_view *view, int height) {
  int last = view->count > height ? view->count - height : 0;
  if (view->first > view->selected)
    view->first = view->selected;
  if (view->first <= view->selected - height)
    view->first = view->selected - height + 1;
  view->first = view->first < last ? view->first : last;
}

static void draw_list(struct top *top, int y, int notes, bool is_old) {
  struct top_view *view = top_view(top);
  int count;
  top_view_columns(view, &count);
  char(*titles)[32] = memory_new((size_t)count * sizeof *titles);
  const char **cells = memory_new((size_t)count * sizeof *cells);
  int *widths = fit_columns(view, titles);
  scroll_to_selection(view, top->height);
  get_cells(view, -1, cells, titles);
  draw_row(view, y++, cells, widths, TOP_BAR);
  for (int i = view->first; i < view->count && i < view->first + top->height; i++) {
    get_cells(view, view->order[i], cells, titles);
    enum top_style style = is_old ? TOP_FADED : style_of_row(view, view->order[i]);
    draw_row(view, y + i - view->first, cells, widths, i == view->selected ? TOP_SELECTED : style);
  }
  if (view->count == 0) {
    top_paint(y, 0, COLS, is_old ? TOP_FADED : TOP_PLAIN, describe_nothing(view));
  } else if (notes > 0) {
    char *text = make_notes(view, widths);
    if (text)
      top_paint_wrapped(y + top->height, notes, is_old ? TOP_FADED : TOP_PLAIN, text);
    free(text);
  }
  free(widths);
  free(cells);
  free(titles);
}

/* ── a text ── */

static void draw_text(struct top *top, int y, bool is_old) {
  struct top_view *view = top_view(top);
  if (!view->text) {
    top_paint(y, 0, COLS, TOP_PLAIN, "reading …");
    return;
  }
  view->count = 0;
  for (const char *at = view->text; (at = strchr(at, '\n')); at++)
    view->count++;
  int last = view->count > top->height ? view->count - top->height : 0;
  view->first = view->first < 0 ? 0 : view->first < last ? view->first : last;
  const char *line = view->text;
  for (int i = 0; i < view->count && i < view->first + top->height; i++) {
    size_t length = strcspn(line, "\n");
    char *copy = memory_copy(line, length);
    if (i >= view->first)
      top_paint(y + i - view->first, 0, COLS, is_old ? TOP_FADED : TOP_PLAIN, copy);
    free(copy);
    line += length + 1;
  }
}

/* ── the lines below ── */

/* Says which rows are seen, of how many, and what their order and the filter are worth. */
static void describe_rows(const struct top *top, char *text, size_t size) {
  const struct top_view *view = top_view(top);
  int last = view->first + top->height < view->count ? view->first + top->height : view->count;
  long long from = view->rows_offset + view->first + 1, to = view->rows_offset + last;
  bool is_part = view->has_more || view->rows_offset > 0;
  size_t length = 0;
  char part[96] = "";
  if (is_part)
    snprintf(part, sizeof part, " within %lld-%lld", (long long)view->rows_offset + 1,
             (long long)view->rows_offset + view->rows.rows);
#define ADD(...) length += (size_t)snprintf(text + length, length < size ? size - length : 0, __VA_ARGS__)
  *text = '\0';
  if (!view->has_rows)
    return;
  bool is_filtered = *view->filter && view->kind != TOP_QUEUES;
  if (!top_view_is_list(view))
    ADD("lines %d-%d of %d", view->first + 1, last, view->count);
  else if (view->count == 0)
    ADD("none");
  else if (is_filtered)
    ADD("%d-%d of %d", view->first + 1, last, view->count);
  else
    ADD("%lld-%lld of %s%lld", from, to, view->has_more ? "more than " : "",
        (long long)view->rows_offset + view->count);
  if (*view->filter)
    ADD(" with '%s'%s", view->filter, is_filtered ? part : "");
  if (view->sort != TOP_UNSORTED)
    ADD(", by %s%s", view->rows.columns[view->sort].title, part);
  else if (view->is_descending)
    ADD(", in reverse%s", part);
  if (view->kind == TOP_ERRORS && view->count > 0)
    ADD("; of the latest %d failed jobs%s", view->errors_read, view->is_cut ? ": there may be more" : "");
  else if (view->is_cut)
    ADD("; only %d jobs were searched", TOP_SEARCHED_MOST);
#undef ADD
}

static void draw_status(const struct top *top, int y) {
  char text[400], every[DURATION_TEXT_SIZE], pace[64];
  describe_rows(top, text, sizeof text);
  duration_format(top->interval_ms, every);
  snprintf(pace, sizeof pace, top->is_paused ? "paused" : "every %s", every);
  int width = listing_table_columns(pace);
  top_paint_user(y, 0, COLS - width - 1, TOP_PLAIN, *top->hint ? top->hint : text);
  top_paint(y, COLS - width, width, TOP_PLAIN, pace);
}

static void draw_prompt(const struct top *top, int y) {
  bool filters = top->mode == TOP_MODE_FILTER;
  int x = top_paint(y, 0, COLS, TOP_BOLD, filters ? "filter: " : "interval, such as 2s or 500ms: ");
  x += top_paint_user(y, x, COLS - x, TOP_PLAIN, filters ? top_view(top)->filter : top->input);
  top_paint(y, x, COLS, TOP_BAR, " ");
  top_paint(y, x + 2, COLS, TOP_PLAIN, filters ? " (Enter keeps it, Esc clears it)" : " (Enter, Esc)");
}

static void draw_keys(const struct top *top, int y) {
  if (top->mode == TOP_MODE_FILTER || top->mode == TOP_MODE_INTERVAL) {
    draw_prompt(top, y);
    return;
  }
  const struct top_view *view = top_view(top);
  int x = 0;
  top_paint_fill(y, TOP_BAR);
  x += top_paint(y, 0, COLS, TOP_BAR, " q quit  ? help  ");
  if (top->depth > 1)
    x += top_paint(y, x, COLS, TOP_BAR, "Esc back  ");
  if (!top_view_is_list(view))
    x += top_paint(y, x, COLS, TOP_BAR, "PgUp PgDn scroll  ");
  else
    x += top_paint(y, x, COLS, TOP_BAR, "Enter open  s S sort  / filter  ");
  if (view->kind == TOP_JOBS)
    x += top_paint(y, x, COLS, TOP_BAR, "t state  ");
  top_paint(y, x, COLS, TOP_BAR, "p pause");
}

static void draw_help(int y, int height) {
  for (int i = 0; i < height && top_help[i]; i++)
    top_paint(y + i, 0, COLS, TOP_PLAIN, top_help[i]);
}

void top_screen_draw(struct top *top) {
  const char *trouble = top->lost_at_ms ? top_session_error(top->session) : top->trouble;
  struct top_view *view = top_view(top);
  bool is_old = *trouble != '\0';
  int y = HEADER_LINES, notes = LINES >= TALL ? NOTE_LINES : LINES >= MIDDLE ? 1 : 0;
  erase();
  draw_header(top, is_old);
  draw_summary(top, is_old);
  draw_tabs(top);
  if (is_old)
    y += top_paint_wrapped(y, LINES >= MIDDLE ? BANNER_LINES : 1, TOP_TROUBLE, trouble);
  if (!top_view_is_list(view) || top->mode == TOP_MODE_HELP)
    notes = 0;
  top->height = LINES - y - notes - 2 - top_view_is_list(view);
  top->height = top->height > 1 ? top->height : 1;
  if (top->mode == TOP_MODE_HELP)
    draw_help(y, LINES - y - 2);
  else if (top_view_is_list(view))
    draw_list(top, y, notes, is_old);
  else
    draw_text(top, y, is_old);
  if (LINES > HEADER_LINES + 2)
    draw_status(top, LINES - 2);
  draw_keys(top, LINES - 1);
  move(LINES - 1, 0);
  refresh();
}
