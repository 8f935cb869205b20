#include "top_paint.h"

#include <curses.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "listing_table.h"
#include "printable.h"
#include "text.h"
#include "top_terminal.h"

enum { PAIR_TROUBLE = 1, PAIR_WARNING, PAIR_FADED, TEXT_SIZE = 1024 };

static bool has_faded_color;

void top_paint_styles(void) {
  enum { DARK_GRAY = 8 };
  if (!top_terminal_has_colors())
    return;
  init_pair(PAIR_TROUBLE, COLOR_RED, -1);
  init_pair(PAIR_WARNING, COLOR_YELLOW, -1);
  has_faded_color = COLORS > DARK_GRAY && init_pair(PAIR_FADED, DARK_GRAY, -1) == OK;
}

static attr_t attributes(enum top_style style) {
  bool colors = top_terminal_has_colors();
  switch (style) {
  case TOP_PLAIN:
    return A_NORMAL;
  case TOP_BOLD:
    return A_BOLD;
  case TOP_BAR:
    return A_REVERSE;
  case TOP_SELECTED:
    return A_REVERSE | A_BOLD;
  case TOP_WARNING:
    return colors ? (attr_t)COLOR_PAIR(PAIR_WARNING) : A_BOLD;
  case TOP_TROUBLE:
    return A_BOLD | (colors ? (attr_t)COLOR_PAIR(PAIR_TROUBLE) : A_NORMAL);
  case TOP_FADED:
    return colors && has_faded_color ? (attr_t)COLOR_PAIR(PAIR_FADED) : A_DIM;
  }
  abort();
}

/* Adds the text to the screen. Characters that curses would write in a form of another width become question marks. */
static void add_text(const char *text, size_t length) {
  const char *end = text + length;
  while (text < end) {
    wchar_t character;
    mbstate_t state = {0};
    size_t bytes = mbrtowc(&character, text, (size_t)(end - text), &state);
    if (bytes == 0 || bytes > (size_t)(end - text)) {
      addstr("?");
      text++;
    } else if (wcwidth(character) < 0) {
      addstr("?");
      text += bytes;
    } else {
      addnstr(text, (int)bytes);
      text += bytes;
    }
  }
}

int top_paint(int y, int x, int width, enum top_style style, const char *text) {
  struct buffer cut = {0};
  width = width < COLS - x ? width : COLS - x;
  if (y < 0 || y >= LINES || width <= 0)
    return 0;
  int columns = listing_table_cut(&cut, text, width);
  attrset((int)attributes(style));
  move(y, x);
  add_text((const char *)cut.bytes, cut.length);
  attrset(A_NORMAL);
  buffer_free(&cut);
  return columns;
}

int top_paint_format(int y, int x, int width, enum top_style style, const char *format, ...) {
  char text[TEXT_SIZE], whole[TEXT_SIZE];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  text_clean(whole, sizeof whole, text, strlen(text)); /* the end may have cut a character */
  return top_paint(y, x, width, style, whole);
}

int top_paint_user(int y, int x, int width, enum top_style style, const char *text) {
  char whole[TEXT_SIZE];
  struct buffer seen = {0};
  text_clean(whole, sizeof whole, text, strlen(text));
  printable_add(&seen, whole, PRINTABLE_CELL);
  buffer_add(&seen, "", 1);
  int columns = top_paint(y, x, width, style, (const char *)seen.bytes);
  buffer_free(&seen);
  return columns;
}

void top_paint_fill(int y, enum top_style style) {
  if (y < 0 || y >= LINES)
    return;
  attrset((int)attributes(style));
  mvhline(y, 0, ' ', COLS);
  attrset(A_NORMAL);
}

int top_paint_wrapped(int y, int lines, enum top_style style, const char *text) {
  char *wrapped = NULL, *rest;
  size_t size;
  int used = 0;
  FILE *out = open_memstream(&wrapped, &size);
  if (!out)
    return 0;
  listing_table_note(out, text, 0, COLS);
  fclose(out);
  for (rest = wrapped; rest && *rest && used < lines; used++) {
    char *line = strsep(&rest, "\n");
    bool is_last = used == lines - 1;
    if (is_last && rest && *rest) /* the other words are there to be cut */
      rest[-1] = ' ';
    for (char *at = line; is_last && (at = strchr(at, '\n'));)
      *at = ' ';
    top_paint(y + used, 0, COLS, style, line);
  }
  free(wrapped);
  return used;
}
