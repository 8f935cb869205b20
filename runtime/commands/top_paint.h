#ifndef PGQ_TOP_PAINT_H
#define PGQ_TOP_PAINT_H

#include "top_state.h"

/* Texts and styles on the screen of `pgq-lua top`. */

enum top_style {
  TOP_PLAIN,
  TOP_BOLD,
  TOP_BAR,      /* titles, and the names of keys */
  TOP_SELECTED, /* the selected row */
  TOP_WARNING,
  TOP_TROUBLE,
  TOP_FADED, /* what is not true any more */
};

/* top_paint_styles(): makes the colours, once the terminal is open. */
void top_paint_styles(void);

/* top_paint(y, x, width, style, text): writes a text in UTF-8 without hidden characters at a place of the screen, cut
 * to `width` columns and to the edge of the screen. Returns how many columns it takes. */
int top_paint(int y, int x, int width, enum top_style style, const char *text);

/* top_paint_format(y, x, width, style, format, …): the same, as printf() would; of the text, 1023 bytes at most. */
int top_paint_format(int y, int x, int width, enum top_style style, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* top_paint_user(y, x, width, style, text): the same for a text that may have any bytes; hidden characters are escaped.
 */
int top_paint_user(int y, int x, int width, enum top_style style, const char *text);

/* top_paint_fill(y, style): the whole line becomes blank, in this style. */
void top_paint_fill(int y, enum top_style style);

/* top_paint_wrapped(y, lines, style, text): writes a text at the begin of at most `lines` lines, broken between words.
 * Returns how many lines it takes. */
int top_paint_wrapped(int y, int lines, enum top_style style, const char *text);

#endif
