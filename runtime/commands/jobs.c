#include "jobs.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "clock.h"
#include "commands_sql.h"
#include "error_groups.h"
#include "inquiry.h"
#include "listing.h"
#include "moment.h"
#include "refusal.h"
#include "search.h"
#include "selection.h"

/* The columns of jobs_running.sql, jobs_waiting.sql and jobs_ended.sql. */
enum column {
  COLUMN_ID,
  COLUMN_QUEUE,
  COLUMN_TIME, /* the one by which jobs in this state are ordered */
  COLUMN_CREATED,
  COLUMN_RUN_AFTER,
  COLUMN_STARTED,
  COLUMN_RAN,
  COLUMN_ATTEMPT,
  COLUMN_WAITS,
  COLUMN_DEATHS,
  COLUMN_WORKER_ID,
  COLUMN_WORKER,
  COLUMN_ERROR,
  COLUMN_META,
  COLUMN_BYTES,
  COLUMN_IS_CUT,   /* this and the next one: in the last row only, which is about all of them */
  COLUMN_SEARCHED, /* how many jobs were read; the time is from when on, or up to when, no job was left out */
};

const struct listing_column jobs_columns[] = {
    {"id", "ID", LISTING_NUMBER},           {"queue", "QUEUE", LISTING_LONG},
    {"state", "STATE", LISTING_TEXT},       {NULL, "WHEN", LISTING_TIME},
    {"attempt", "ATTEMPT", LISTING_NUMBER}, {NULL, "WORKER OR ERROR", LISTING_LONG},
    {"created_at", NULL, LISTING_TIME},     {"run_after", NULL, LISTING_TIME},
    {"started_at", NULL, LISTING_TIME},     {"ran_at", NULL, LISTING_TIME},
    {"retries_left", NULL, LISTING_NUMBER}, {"deaths", NULL, LISTING_NUMBER},
    {"worker_id", NULL, LISTING_NUMBER},    {"worker", NULL, LISTING_TEXT},
    {"error", NULL, LISTING_TEXT},          {"meta", NULL, LISTING_JSON},
    {"data_bytes", NULL, LISTING_NUMBER},
};

_Static_assert(sizeof jobs_columns / sizeof jobs_columns[0] == JOBS_COLUMNS, "as many as jobs.h says");

const struct jobs_state jobs_states[JOBS_STATES] = {
    {JOB_RUNNING, "running", SQL_JOBS_RUNNING},   {JOB_DUE, "due", SQL_JOBS_WAITING},
    {JOB_LATER, "later", SQL_JOBS_WAITING},       {JOB_FAILED, "failed", SQL_JOBS_ENDED},
    {JOB_CANCELLED, "cancelled", SQL_JOBS_ENDED}, {JOB_COMPLETED, "completed", SQL_JOBS_ENDED},
};

static void add_job(struct listing *listing, const char *state, const PGresult *result, int number) {
  const char *row[COLUMN_IS_CUT];
  for (int i = 0; i < COLUMN_IS_CUT; i++)
    row[i] = PQgetisnull(result, number, i) ? NULL : PQgetvalue(result, number, i);
  const char *detail = row[COLUMN_WORKER] ? row[COLUMN_WORKER] : row[COLUMN_ERROR];
  listing_add(listing, (const char *[JOBS_COLUMNS]){
                           row[COLUMN_ID], row[COLUMN_QUEUE], state, row[COLUMN_TIME], row[COLUMN_ATTEMPT], detail,
                           row[COLUMN_CREATED], row[COLUMN_RUN_AFTER], row[COLUMN_STARTED], row[COLUMN_RAN],
                           row[COLUMN_WAITS], row[COLUMN_DEATHS], row[COLUMN_WORKER_ID], row[COLUMN_WORKER],
                           row[COLUMN_ERROR], row[COLUMN_META], row[COLUMN_BYTES]});
}

int jobs_add(struct listing *listing, const struct jobs_state *state, const PGresult *result, int most) {
  int rows = PQntuples(result) - 1; /* the last row is about the others */
  for (int i = 0; i < rows && i < most; i++)
    add_job(listing, state->name, result, i);
  return rows;
}

bool jobs_are_cut(const PGresult *result) {
  return *PQgetvalue(result, PQntuples(result) - 1, COLUMN_IS_CUT) == 't';
}

/* Adds to the notes which jobs in this state were not searched. `row` is the last one of the result. */
static void note_cut(struct buffer *notes, const struct jobs_state *state, const PGresult *result, int row) {
  char note[320], until[MOMENT_SIZE] = "";
  const char *searched = PQgetvalue(result, row, COLUMN_SEARCHED);
  bool waits = state->state & JOB_WAITING;
  if (!PQgetisnull(result, row, COLUMN_TIME))
    moment_iso(until, PQgetvalue(result, row, COLUMN_TIME));
  int length = snprintf(note, sizeof note, "pgq-lua jobs: only %s %s jobs were searched", searched, state->name);
  if (*until)
    length += snprintf(note + length, sizeof note - (size_t)length,
                       ", all that %s %s among them: search the others with --%s %s, or name a queue",
                       waits ? "are due until" : "ended since", until, waits ? "since" : "before", until);
  buffer_add(notes, note, (size_t)length);
  buffer_add(notes, "\n", 1);
}

/* Asks for the jobs in one state, at most `left` of them. If conditions are searched that no index has, asks for about
 * `ms` milliseconds. Returns the result, or NULL. */
static PGresult *find_jobs(struct inquiry *inquiry, const struct selection *selection, const struct jobs_state *state,
                           int64_t left, int64_t ms) {
  char limit[24], most[24];
  struct search search;
  PGresult *result = NULL;
  bool is_cut = true;
  snprintf(limit, sizeof limit, "%lld", (long long)left);
  search_begin(&search, ms);
  do {
    PQclear(result);
    snprintf(most, sizeof most, "%lld", (long long)search.rows);
    result =
        inquiry_ask(inquiry, state->sql, JOBS_PARAMETERS,
                    (const char *[]){selection->queue, state->name, selection->since, selection->before,
                                     selection->pattern, selection->meta_key, selection->meta_value, limit, most, "0"});
    is_cut = result && jobs_are_cut(result);
  } while (is_cut && search_goes_on(&search));
  return result;
}

/* The states that are listed: those of the selection, without those in which no job can be selected. */
static unsigned states_of(const struct selection *selection) {
  unsigned all = JOB_RUNNING | JOB_WAITING | JOB_ENDED;
  unsigned states = selection->states ? selection->states : all;
  return selection->pattern ? states & ~(unsigned)JOB_COMPLETED : states; /* these have no error */
}

static int count_bits(unsigned bits) {
  int count = 0;
  for (; bits; bits &= bits - 1)
    count++;
  return count;
}

/* Lists the jobs in one state, at most `left` of them. Returns how many, or -1. */
static int64_t list_state(struct inquiry *inquiry, struct listing *listing, struct buffer *notes,
                          const struct selection *selection, const struct jobs_state *state, int64_t left, int64_t ms) {
  PGresult *result = find_jobs(inquiry, selection, state, left, ms);
  if (!result)
    return -1;
  int rows = jobs_add(listing, state, result, INT_MAX);
  if (jobs_are_cut(result))
    note_cut(notes, state, result, rows);
  PQclear(result);
  return rows;
}

static int list_jobs(const struct options *options, struct inquiry *inquiry, const struct selection *selection) {
  struct listing listing;
  struct buffer notes = {0};
  unsigned states = states_of(selection);
  int64_t most = options->limit ? options->limit : INQUIRY_LIMIT, left = most, listed = 0;
  int64_t until_ms = clock_ms() + SEARCH_MS;
  listing_init(&listing, options, jobs_columns, JOBS_COLUMNS, inquiry->now);
  for (size_t i = 0; i < JOBS_STATES && left > 0 && listed >= 0; i++) {
    if (!(states & jobs_states[i].state))
      continue;
    listed = list_state(inquiry, &listing, &notes, selection, &jobs_states[i], left,
                        (until_ms - clock_ms()) / count_bits(states));
    states &= ~(unsigned)jobs_states[i].state;
    left -= listed;
  }
  int status = listing_finish(&listing, "jobs", listed < 0 ? "" : "There are no such jobs.");
  if (notes.length > 0)
    fwrite(notes.bytes, 1, notes.length, stderr);
  buffer_free(&notes);
  if (listed >= 0 && left == most)
    selection_explain_none(selection, "jobs");
  return listed < 0 || status != 0 ? -1 : 0;
}

static int group_errors(const struct options *options, struct inquiry *inquiry, const struct selection *selection) {
  char most[24];
  struct search search;
  PGresult *result = NULL;
  bool is_cut;
  search_begin(&search, SEARCH_MS);
  do {
    PQclear(result);
    snprintf(most, sizeof most, "%lld", (long long)search.rows);
    result = inquiry_ask(inquiry, SQL_JOBS_ERRORS, 4,
                         (const char *[]){selection->queue, selection->since, selection->before, most});
    is_cut = result && error_groups_are_cut(result);
  } while (is_cut && search_goes_on(&search));
  if (!result)
    return -1;
  int status = error_groups_list(options, inquiry, result);
  PQclear(result);
  return status;
}

/* Reads the words and options into the selection. Returns 0, or -1 after a message about wrong usage. */
static int read_selection(struct selection *selection, const struct options *options, int argc, char **argv) {
  const char *misuse = argc > 1                      ? "there is more than one queue"
                       : argc == 1 && options->queue ? "the queue is given twice: as a word and with --queue"
                       : options->group_by != GROUP_BY_NONE && (options->state || options->error || options->meta)
                           ? "--group-by error takes a queue, --since and --before only"
                           : NULL;
  if (misuse) {
    refuse("jobs", "jobs [options] [QUEUE]", "%s", misuse);
    return -1;
  }
  if (selection_read(selection, options, "jobs") != 0)
    return -1;
  if (argc == 1)
    selection->queue = argv[0];
  return 0;
}

int jobs_command(const struct options *options, int argc, char **argv) {
  struct selection selection;
  struct inquiry inquiry;
  if (read_selection(&selection, options, argc, argv) != 0)
    return 2;
  if (inquiry_begin(&inquiry, options, "jobs", JOBS_NEEDS, "name a queue, a state, or a time (--since, --before)") !=
      0) {
    selection_free(&selection);
    return 1;
  }
  int status = selection_resolve(&selection, &inquiry.transaction);
  if (status == 0)
    status = options->group_by == GROUP_BY_ERROR ? group_errors(options, &inquiry, &selection)
                                                 : list_jobs(options, &inquiry, &selection);
  inquiry_end(&inquiry);
  selection_free(&selection);
  return status == 0 ? 0 : inquiry.transaction.refused ? 2 : 1;
}
