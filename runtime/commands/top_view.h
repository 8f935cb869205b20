#ifndef PGQ_TOP_VIEW_H
#define PGQ_TOP_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "listing.h"
#include "top_session.h"

/*
 * What `pgq-lua top` shows: a view is a list, or the details of one row of a list. A list reads a part of its rows,
 * from `offset` on: TOP_PART of them, which are all there are in most databases. Sorting is within this part.
 */
enum top_kind {
  TOP_QUEUES,
  TOP_JOBS,
  TOP_WORKERS,
  TOP_ERRORS,
  TOP_LISTS, /* the kinds before this one are lists */
  TOP_JOB = TOP_LISTS,
  TOP_WORKER,
};

enum {
  TOP_PART = 100,
  TOP_ERRORS_MOST = 1000,    /* the failed jobs whose errors are grouped */
  TOP_SEARCHED_MOST = 10000, /* the jobs that are searched in each state */
  TOP_FILTER_SIZE = 128,
  TOP_EVERY_STATE = -1,
  TOP_UNSORTED = -1,
};

/* Where the selection goes when the next part has come. */
enum top_landing { TOP_LAND_ON_KEY, TOP_LAND_ON_FIRST, TOP_LAND_ON_LAST };

struct top_view {
  enum top_kind kind;
  char *queue;   /* jobs and errors: only those of this queue; NULL: of all */
  char *pattern; /* jobs: only those whose errors are like this; NULL: all */
  char *id;      /* of a job or a worker, in details */
  int state;     /* jobs: an index of jobs_states, or TOP_EVERY_STATE */
  char filter[TOP_FILTER_SIZE];
  int sort; /* a column, or TOP_UNSORTED: as the list is read */
  bool is_descending;
  int64_t offset;
  enum top_landing landing;

  /* What was read last, in the time of the database: rows of a list, or the text of details. */
  bool has_rows, has_more, is_cut;
  char now[64];
  struct listing rows;
  int64_t rows_offset; /* of the first one of `rows` */
  int errors_read;     /* errors: how many failed jobs were grouped */
  char *text;

  /* Which of the rows are shown, in which order (top_rows.h); or which lines of the text. */
  int *order, count;
  int selected, first; /* indexes of `order`; of a text, `first` is its first line on the screen */
  char *key;           /* of the selected row */

  /* The question that is being asked. */
  int asked_state;
  int64_t asked_offset;
  char asked_pattern[2 * TOP_FILTER_SIZE + 4], asked_limit[24], asked_skip[24];
};

/* top_view_new(kind): a view that has read nothing yet. top_view_free(view): NULL is allowed. */
struct top_view *top_view_new(enum top_kind kind);
void top_view_free(struct top_view *view);

/* top_view_columns(view, count): the columns of a list. top_view_is_list(view): whether it has any. */
const struct listing_column *top_view_columns(const struct top_view *view, int *count);
bool top_view_is_list(const struct top_view *view);

/* top_view_question(view): what to ask. The first statement is top.sql. The view must live until the answer has come.
 */
struct top_question top_view_question(struct top_view *view);

/* top_view_take(view, answer, width): takes the rows of the answer; `width` is that of the screen, for texts. */
void top_view_take(struct top_view *view, const struct top_answer *answer, int width);

/* top_view_open(view): the view of the selected row: the jobs of a queue, the details of a job or a worker, the jobs
 * that have failed with an error. NULL if there is none. */
struct top_view *top_view_open(const struct top_view *view);

#endif
