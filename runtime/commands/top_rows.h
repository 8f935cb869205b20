#ifndef PGQ_TOP_ROWS_H
#define PGQ_TOP_ROWS_H

#include "top_view.h"

/* Which rows of a list are shown, in which order, and which of them is selected. */

/* top_rows_arrange(view): filters and sorts the rows that were read. The selection stays on its row. To be called when
 * rows, filter or order have changed. */
void top_rows_arrange(struct top_view *view);

/* top_rows_key(view, row): what makes a row of `view->rows` the same one in the next answer. */
const char *top_rows_key(const struct top_view *view, int row);

/* top_rows_select(view, index): selects a row by its place in `view->order`; the nearest one if there is none there. */
void top_rows_select(struct top_view *view, int index);

/* top_rows_sort(view, step): sorts by the next column (1) or the one before (-1); between the last and the first column
 * is the order in which the list is read. Numbers and times begin with the greatest. */
void top_rows_sort(struct top_view *view, int step);

#endif
