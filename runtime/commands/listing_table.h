#ifndef PGQ_LISTING_TABLE_H
#define PGQ_LISTING_TABLE_H

#include "listing.h"

/*
 * listing_table_print(columns, count, cells, rows): prints a table on the terminal that is stdout. `cells` has `rows`
 * times `count` texts in UTF-8, one after the other, each with its NUL. Long texts are cut, the widest
 * first, until the table fits the terminal. Notes get lines of their own, wrapped and indented.
 */
void listing_table_print(const struct listing_column *columns, int count, const char *cells, int rows);

/*
 * listing_table_note(text, indent, width): prints a text in UTF-8, indented, and wrapped at blanks so that no line has
 * more than `width` columns. A word that is longer than a line is broken.
 */
void listing_table_note(const char *text, int indent, int width);

/*
 * listing_table_line(text, column, width): prints the rest of a line that has `column` columns already, and ends it. If
 * the text does not fit, it is wrapped: its further lines begin two columns behind its first one. A width of 0 is no
 * limit.
 */
void listing_table_line(const char *text, int column, int width);

/* listing_table_width(): the columns of the terminal that is stdout: at least 40, and 80 if it does not say. */
int listing_table_width(void);

#endif
