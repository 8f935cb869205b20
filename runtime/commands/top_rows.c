#include "top_rows.h"

#include <stdlib.h>
#include <string.h>

#include "error_groups.h"
#include "listing_table.h"
#include "memory.h"
#include "moment.h"

const char *top_rows_key(const struct top_view *view, int row) {
  const char *key = listing_value(&view->rows, row, view->kind == TOP_ERRORS ? ERROR_GROUPS_KEY : 0);
  return key ? key : "";
}

/* Whether the row has the text of the filter in one of its cells; of a queue only the name counts, as in queues.sql. */
static bool fits(const struct top_view *view, int row) {
  int count;
  const struct listing_column *columns = top_view_columns(view, &count);
  if (!*view->filter)
    return true;
  for (int i = 0; i < (view->kind == TOP_QUEUES ? 1 : count); i++)
    if (columns[i].title && strcasestr(listing_cell(&view->rows, row, i), view->filter))
      return true;
  return false;
}

static int compare_numbers(double left, double right) {
  return (left > right) - (left < right);
}

static int compare_values(enum listing_kind kind, const char *left, const char *right) {
  switch (kind) {
  case LISTING_NUMBER:
  case LISTING_COUNT:
  case LISTING_PART:
  case LISTING_DURATION:
    return compare_numbers(strtod(left, NULL), strtod(right, NULL));
  case LISTING_TIME:
    return compare_numbers((double)moment_between_ms(right, left), 0);
  case LISTING_AGE: /* the older one is the greater one */
    return compare_numbers((double)moment_between_ms(left, right), 0);
  case LISTING_TEXT:
  case LISTING_LONG:
  case LISTING_FLAG:
  case LISTING_JSON:
  case LISTING_NOTE:
    return strcasecmp(left, right);
  }
  abort();
}

/* Rows without a value are the last ones in both directions. Equal rows keep the order in which they were read. */
static int compare(const void *a, const void *b, void *context) {
  const struct top_view *view = context;
  int left = *(const int *)a, right = *(const int *)b, count;
  const char *left_value = listing_value(&view->rows, left, view->sort);
  const char *right_value = listing_value(&view->rows, right, view->sort);
  int order;
  if (!left_value || !right_value)
    order = (left_value == NULL) - (right_value == NULL);
  else {
    order = compare_values(top_view_columns(view, &count)[view->sort].kind, left_value, right_value);
    order = view->is_descending ? -order : order;
  }
  return order != 0 ? order : left - right;
}

static int find_key(const struct top_view *view) {
  for (int i = 0; view->key && i < view->count; i++)
    if (strcmp(top_rows_key(view, view->order[i]), view->key) == 0)
      return i;
  return view->selected;
}

void top_rows_arrange(struct top_view *view) {
  free(view->order);
  view->order = memory_new(((size_t)view->rows.rows + 1) * sizeof *view->order);
  view->count = 0;
  for (int i = 0; i < view->rows.rows; i++)
    if (fits(view, i))
      view->order[view->count++] = i;
  if (view->sort != TOP_UNSORTED)
    qsort_r(view->order, (size_t)view->count, sizeof *view->order, compare, view);
  else if (view->is_descending) /* the order in which the list is read, the other way round */
    for (int i = 0, j = view->count - 1; i < j; i++, j--) {
      int row = view->order[i];
      view->order[i] = view->order[j];
      view->order[j] = row;
    }
  if (view->landing == TOP_LAND_ON_KEY) {
    top_rows_select(view, find_key(view));
  } else if (view->rows_offset == view->offset) {
    top_rows_select(view, view->landing == TOP_LAND_ON_FIRST ? 0 : view->count - 1);
    view->first = 0;
    view->landing = TOP_LAND_ON_KEY;
  }
}

void top_rows_select(struct top_view *view, int index) {
  index = index < view->count ? index : view->count - 1;
  view->selected = index > 0 ? index : 0;
  free(view->key);
  view->key = view->count > 0 ? memory_text(top_rows_key(view, view->order[view->selected])) : NULL;
}

void top_rows_sort(struct top_view *view, int step) {
  int count;
  const struct listing_column *columns = top_view_columns(view, &count);
  do {
    view->sort += step;
    if (view->sort < TOP_UNSORTED)
      view->sort = count - 1;
    if (view->sort == count)
      view->sort = TOP_UNSORTED;
  } while (view->sort != TOP_UNSORTED && !listing_table_in_row(&columns[view->sort]));
  enum listing_kind kind = view->sort == TOP_UNSORTED ? LISTING_TEXT : columns[view->sort].kind;
  view->is_descending = kind != LISTING_TEXT && kind != LISTING_LONG;
  top_rows_arrange(view);
}
