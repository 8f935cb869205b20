#ifndef PGQ_LISTING_TABLE_H
#define PGQ_LISTING_TABLE_H

#include <stdio.h>

#include "listing.h"

/*
 * listing_table_print(columns, count, cells, rows): prints a table on the terminal that is stdout. `cells` has `rows`
 * times `count` texts in UTF-8, one after the other, each with its NUL. Long texts are cut, the widest
 * first, until the table fits the terminal. Notes get lines of their own, wrapped and indented.
 */
void listing_table_print(const struct listing_column *columns, int count, const char *cells, int rows);

/*
 * listing_table_fit(columns, count, cells, rows, most, widths): finds widths for the columns, so that a row takes no
 * more than `most` columns of the terminal if that is possible: only long texts are cut. The widths begin as those that
 * the caller wants at least. `cells` has `rows` times `count` texts in UTF-8; NULL is none.
 */
void listing_table_fit(const struct listing_column *columns, int count, const char *const *cells, size_t rows, int most,
                       int *widths);

/* listing_table_in_row(column), listing_table_is_right(column): whether a table has this column in its rows; and
 * whether the column's texts end at its right edge. */
bool listing_table_in_row(const struct listing_column *column);
bool listing_table_is_right(const struct listing_column *column);

/* Between two columns of a table are this many blanks. */
enum { LISTING_TABLE_GAP = 2 };

/* listing_table_columns(text): how many columns of a terminal a text in UTF-8 takes. */
int listing_table_columns(const char *text);

/* listing_table_cut(out, text, width): adds as much of the text as `width` columns take; a longer text ends in an
 * ellipsis. Returns the columns used. */
int listing_table_cut(struct buffer *out, const char *text, int width);

/*
 * listing_table_note(out, text, indent, width): prints a text in UTF-8, indented, and wrapped at blanks so that no line
 * has more than `width` columns. A word that is longer than a line is broken.
 */
void listing_table_note(FILE *out, const char *text, int indent, int width);

/*
 * listing_table_field(out, label, value, width): prints "  label     value", unless the value is NULL or "". Each line
 * of the value begins in the same column; one that begins with a tab, as in tracebacks, further to the right.
 * Characters that are not seen are escaped. Lines that are wider than the page are wrapped, unless `width` is 0.
 */
void listing_table_field(FILE *out, const char *label, const char *value, int width);

/*
 * listing_table_line(out, text, column, width): prints the rest of a line that has `column` columns already, and ends
 * it. If the text does not fit, it is wrapped: its further lines begin two columns behind its first one. A width of 0
 * is no limit.
 */
void listing_table_line(FILE *out, const char *text, int column, int width);

/* listing_table_width(): the columns of the terminal that is stdout: at least 40, and 80 if it does not say. */
int listing_table_width(void);

#endif
