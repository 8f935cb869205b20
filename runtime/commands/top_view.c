#include "top_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands_sql.h"
#include "error_groups.h"
#include "jobs.h"
#include "listing_table.h"
#include "memory.h"
#include "queues.h"
#include "show.h"
#include "text.h"
#include "top_rows.h"
#include "workers.h"

#define ATTEMPTS_MOST "50"

/* The statements of a kind, of which the first one is top.sql, and what becomes of their results. */
struct kind_row {
  const struct listing_column *columns;
  int count;
  const char *needs;
  bool (*next)(struct top_view *view, const struct top_answer *answer, struct top_statement *statement);
  void (*take)(struct top_view *view, const struct top_answer *answer, int width);
};

static void set_statement(struct top_statement *statement, const char *sql, int count, const char *const *values) {
  statement->sql = sql;
  statement->count = count;
  memcpy(statement->values, values, (size_t)count * sizeof *values);
}

static int rows_of(const PGresult *result) {
  return PQntuples(result) < TOP_PART ? PQntuples(result) : TOP_PART;
}

/* Copies the text into a pattern for LIKE that has it as it is, without the final NUL. */
static size_t add_literal(char *pattern, const char *text) {
  size_t length = 0;
  for (; *text; text++) {
    if (*text == '%' || *text == '_' || *text == '\\')
      pattern[length++] = '\\';
    pattern[length++] = *text;
  }
  return length;
}

/* ── queues ── */

static bool next_of_queues(struct top_view *view, const struct top_answer *answer, struct top_statement *statement) {
  size_t length = 0;
  bool filters = *view->filter && text_is_utf8(view->filter, strlen(view->filter));
  if (answer->count > 2 || (answer->count == 2 && !queues_want_names(answer->results[1])))
    return false;
  view->asked_pattern[length++] = '%';
  length += add_literal(view->asked_pattern + length, view->filter);
  view->asked_pattern[length++] = '%';
  view->asked_pattern[length] = '\0';
  set_statement(statement, answer->count == 1 ? SQL_QUEUES : SQL_REGISTERED_QUEUES, answer->count == 1 ? 3 : 0,
                (const char *[]){view->asked_limit, filters ? view->asked_pattern : NULL, view->asked_skip});
  return true;
}

static void take_queues(struct top_view *view, const struct top_answer *answer, int width) {
  (void)width;
  view->has_more = PQntuples(answer->results[1]) > TOP_PART;
  queues_add(&view->rows, answer->results[1], TOP_PART, answer->count > 2 ? answer->results[2] : NULL, view->now);
}

/* ── jobs ── */

/* The state that the statement after the first `count` ones is about, or NULL if there is none. */
static const struct jobs_state *state_of(const struct top_view *view, int count) {
  if (view->asked_state == TOP_EVERY_STATE)
    return count - 1 < JOBS_STATES ? &jobs_states[count - 1] : NULL;
  return count == 1 ? &jobs_states[view->asked_state] : NULL;
}

static int count_jobs(const struct top_answer *answer) {
  int jobs = 0;
  for (int i = 1; i < answer->count; i++)
    jobs += PQntuples(answer->results[i]) - 1; /* the last row is about the others */
  return jobs;
}

static bool next_of_jobs(struct top_view *view, const struct top_answer *answer, struct top_statement *statement) {
  static char searched[24];
  const struct jobs_state *state = state_of(view, answer->count);
  int left = TOP_PART + 1 - count_jobs(answer);
  if (!state || left <= 0)
    return false;
  snprintf(searched, sizeof searched, "%d", TOP_SEARCHED_MOST);
  snprintf(view->asked_limit, sizeof view->asked_limit, "%d", left);
  set_statement(statement, state->sql, JOBS_PARAMETERS,
                (const char *[]){view->queue, state->name, NULL, NULL, view->pattern, NULL, NULL, view->asked_limit,
                                 searched, view->asked_skip});
  return true;
}

static void take_jobs(struct top_view *view, const struct top_answer *answer, int width) {
  (void)width;
  view->has_more = count_jobs(answer) > TOP_PART;
  for (int i = 1; i < answer->count; i++) {
    const struct jobs_state *state = state_of(view, i);
    jobs_add(&view->rows, state, answer->results[i], TOP_PART - view->rows.rows);
    view->is_cut |= jobs_are_cut(answer->results[i]);
  }
}

/* ── workers ── */

static bool next_of_workers(struct top_view *view, const struct top_answer *answer, struct top_statement *statement) {
  if (answer->count > 2)
    return false;
  if (answer->count == 1) {
    set_statement(statement, SQL_WORKERS, 3, (const char *[]){view->asked_limit, view->asked_skip, view->id});
    return true;
  }
  /* The jobs of the worker that is selected: of the first one if none is. */
  const char *id = view->id ? view->id : view->key;
  if (!id && PQntuples(answer->results[1]) > 0)
    id = PQgetvalue(answer->results[1], 0, WORKERS_ID);
  set_statement(statement, SQL_WORKER_JOBS, 1, &id);
  return id != NULL;
}

static void take_workers(struct top_view *view, const struct top_answer *answer, int width) {
  const PGresult *result = answer->results[1];
  (void)width;
  view->has_more = PQntuples(result) > TOP_PART;
  for (int i = 0; i < rows_of(result); i++) {
    const char *id = PQgetvalue(result, i, WORKERS_ID);
    bool is_selected = view->key ? strcmp(id, view->key) == 0 : i == 0;
    workers_add(&view->rows, result, i, answer->count > 2 && is_selected ? answer->results[2] : NULL, view->now);
  }
}

/* What is shown about a worker: columns of its list, by their title or their name in JSON. */
static const struct {
  const char *label, *column;
} worker_fields[] = {
    {"worker", "WORKER"},      {"stage", "stage"},         {"trouble", "TROUBLE"}, {"busy", "BUSY"},
    {"jobs", "in_flight"},     {"leases", "leases"},       {"running", "RUNNING"}, {"", "QUEUES"},
    {"seen", "last_seen_at"},  {"began", "started_at"},    {"script", "script"},   {"version", "script_version"},
    {"error", "script_error"}, {"memory", "memory_bytes"}, {"options", "options"}, {"pooled", "pooled"},
    {"request", "request"},    {"program", "version"},
};

static const char *find_cell(const struct listing *rows, const char *column) {
  for (int i = 0; i < rows->count; i++)
    if ((rows->columns[i].title && strcmp(rows->columns[i].title, column) == 0) ||
        (rows->columns[i].name && strcmp(rows->columns[i].name, column) == 0))
      return listing_cell(rows, 0, i);
  return NULL;
}

static void take_worker(struct top_view *view, const struct top_answer *answer, int width) {
  size_t size;
  FILE *out = open_memstream(&view->text, &size);
  if (!out)
    return;
  bool is_there = PQntuples(answer->results[1]) > 0;
  if (is_there)
    workers_add(&view->rows, answer->results[1], 0, answer->count > 2 ? answer->results[2] : NULL, view->now);
  fprintf(out, is_there ? "worker %s\n" : "worker %s is not there any more: it has stopped or died\n", view->id);
  for (size_t i = 0; is_there && i < sizeof worker_fields / sizeof worker_fields[0]; i++)
    listing_table_field(out, worker_fields[i].label, find_cell(&view->rows, worker_fields[i].column), width);
  fclose(out);
}

/* ── errors ── */

static bool next_of_errors(struct top_view *view, const struct top_answer *answer, struct top_statement *statement) {
  static char most[24];
  snprintf(most, sizeof most, "%d", TOP_ERRORS_MOST);
  set_statement(statement, SQL_JOBS_ERRORS, 4, (const char *[]){view->queue, NULL, NULL, most});
  return answer->count == 1;
}

static void take_errors(struct top_view *view, const struct top_answer *answer, int width) {
  (void)width;
  error_groups_add(&view->rows, answer->results[1], INT64_MAX);
  view->errors_read = error_groups_read(answer->results[1]);
  view->is_cut = error_groups_are_cut(answer->results[1]);
}

/* ── a job ── */

static bool next_of_job(struct top_view *view, const struct top_answer *answer, struct top_statement *statement) {
  const char *const values[] = {view->id, ATTEMPTS_MOST};
  if (answer->count == 1)
    set_statement(statement, SQL_SHOW_JOB, 1, values);
  else if (answer->count == 2)
    set_statement(statement, SQL_SHOW_ATTEMPTS, 2, values);
  else
    set_statement(statement, SHOW_WHY, 1, values);
  return answer->count < 3 || (answer->count == 3 && show_wants_why(answer->results[1]));
}

static void take_job(struct top_view *view, const struct top_answer *answer, int width) {
  size_t size;
  struct shown shown = {.out = open_memstream(&view->text, &size),
                        .width = width,
                        .now = view->now,
                        .id = view->id,
                        .job = answer->results[1],
                        .attempts = answer->results[2],
                        .why = answer->count > 3 ? answer->results[3] : NULL};
  if (!shown.out)
    return;
  show_print(&shown);
  fclose(shown.out);
}

/* ── all kinds ── */

static const struct kind_row kind_rows[] = {
    [TOP_QUEUES] = {queues_columns, QUEUES_COLUMNS, QUEUES_NEEDS, next_of_queues, take_queues},
    [TOP_JOBS] = {jobs_columns, JOBS_COLUMNS, "{pgq_jobs SELECT,pgq_workers SELECT,pgq_stats SELECT}", next_of_jobs,
                  take_jobs},
    [TOP_WORKERS] = {workers_columns, WORKERS_COLUMNS, "{pgq_workers SELECT,pgq_stats SELECT}", next_of_workers,
                     take_workers},
    [TOP_ERRORS] = {error_groups_columns, ERROR_GROUPS_COLUMNS, "{pgq_jobs SELECT,pgq_workers SELECT,pgq_stats SELECT}",
                    next_of_errors, take_errors},
    [TOP_JOB] = {NULL, 0, SHOW_NEEDS, next_of_job, take_job},
    [TOP_WORKER] = {workers_columns, WORKERS_COLUMNS, "{pgq_workers SELECT,pgq_stats SELECT}", next_of_workers,
                    take_worker},
};

struct top_view *top_view_new(enum top_kind kind) {
  struct top_view *view = memory_new(sizeof *view);
  view->kind = kind;
  view->sort = TOP_UNSORTED;
  view->state = kind == TOP_JOBS ? 0 : TOP_EVERY_STATE; /* those that run */
  return view;
}

void top_view_free(struct top_view *view) {
  if (!view)
    return;
  listing_free(&view->rows);
  free(view->queue);
  free(view->pattern);
  free(view->id);
  free(view->text);
  free(view->order);
  free(view->key);
  free(view);
}

const struct listing_column *top_view_columns(const struct top_view *view, int *count) {
  *count = kind_rows[view->kind].count;
  return kind_rows[view->kind].columns;
}

bool top_view_is_list(const struct top_view *view) {
  return view->kind < TOP_LISTS;
}

static bool next(void *context, const struct top_answer *answer, struct top_statement *statement) {
  struct top_view *view = context;
  if (answer->count > 0)
    return kind_rows[view->kind].next(view, answer, statement);
  statement->sql = SQL_TOP;
  return true;
}

struct top_question top_view_question(struct top_view *view) {
  view->asked_state = view->state;
  view->asked_offset = view->offset;
  snprintf(view->asked_limit, sizeof view->asked_limit, "%d", TOP_PART + 1);
  snprintf(view->asked_skip, sizeof view->asked_skip, "%lld", (long long)view->offset);
  return (struct top_question){next, view, kind_rows[view->kind].needs};
}

void top_view_take(struct top_view *view, const struct top_answer *answer, int width) {
  const struct kind_row *kind = &kind_rows[view->kind];
  listing_free(&view->rows);
  free(view->text);
  view->text = NULL;
  view->has_more = view->is_cut = false;
  view->has_rows = true;
  view->rows_offset = view->asked_offset;
  snprintf(view->now, sizeof view->now, "%s", PQgetvalue(answer->results[0], 0, 1));
  listing_keep(&view->rows, kind->columns, kind->count, view->now);
  kind->take(view, answer, width);
  if (top_view_is_list(view))
    top_rows_arrange(view);
}

/* The pattern of the errors of a group: # stands for anything. The statement gives only the first characters of an
 * error, so that a long one may go on. */
static char *pattern_of(const char *key, const char *error) {
  enum { CHARACTERS_READ = 300 };
  char *pattern = memory_new(2 * strlen(key) + 2);
  size_t length = add_literal(pattern, key), characters = 0;
  for (size_t i = 0; i < length; i++)
    pattern[i] = pattern[i] == '#' ? '%' : pattern[i];
  for (; *error; error++)
    characters += (*error & 0xc0) != 0x80;
  if (characters >= CHARACTERS_READ)
    pattern[length++] = '%';
  pattern[length] = '\0';
  return pattern;
}

static int find_failed(void) {
  int state = 0;
  while (jobs_states[state].state != JOB_FAILED)
    state++;
  return state;
}

struct top_view *top_view_open(const struct top_view *view) {
  if (!top_view_is_list(view) || view->count == 0)
    return NULL;
  int row = view->order[view->selected];
  const char *key = top_rows_key(view, row);
  enum top_kind kind = view->kind == TOP_JOBS ? TOP_JOB : view->kind == TOP_WORKERS ? TOP_WORKER : TOP_JOBS;
  struct top_view *opened = top_view_new(kind);
  if (kind != TOP_JOBS) {
    opened->id = memory_text(key);
  } else if (view->kind == TOP_QUEUES) {
    opened->queue = memory_text(key);
    opened->state = TOP_EVERY_STATE;
  } else {
    opened->queue = memory_text(view->queue);
    opened->pattern = pattern_of(key, listing_value(&view->rows, row, ERROR_GROUPS_COLUMNS - 1));
    opened->state = find_failed();
  }
  return opened;
}
