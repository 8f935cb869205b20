#include "queues.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands_sql.h"
#include "histogram.h"
#include "inquiry.h"
#include "listing.h"
#include "memory.h"
#include "moment.h"
#include "nearest.h"
#include "refusal.h"

/* The columns of queues.sql. */
enum column {
  COLUMN_NAME,
  COLUMN_DUE,
  COLUMN_OLDEST_DUE,
  COLUMN_RUNNING,
  COLUMN_LATER,
  COLUMN_FAILED,
  COLUMN_DONE,
  COLUMN_RUN_BUCKETS,
  COLUMN_STATE,
  COLUMN_WORKERS,
  COLUMN_PAUSED_UNTIL,
  COLUMN_PAUSED_BY,
  COLUMN_PAUSE_REASON,
  COLUMN_BACKS_OFF_UNTIL,
  COLUMN_BACKOFF_ERROR,
  COLUMN_SCRIPT_ERROR,
  COLUMN_EXECUTORS,
  COLUMN_BUSIEST_JOB,
  COLUMN_BUSIEST_QUEUE,
  COLUMN_BUSIEST_SINCE,
  COLUMN_SENTENCE, /* what `pgq-lua why` says, for a queue that workers register */
};

const struct listing_column queues_columns[] = {
    {"queue", "QUEUE", LISTING_LONG},
    {"due", "DUE", LISTING_COUNT},
    {"oldest_due_at", "OLDEST", LISTING_AGE},
    {"running", "RUN", LISTING_COUNT},
    {"later", "LATER", LISTING_COUNT},
    {"failed", "FAILED", LISTING_COUNT},
    {"done_per_minute", "DONE/MIN", LISTING_NUMBER},
    {"run_p95_ms", "P95", LISTING_DURATION},
    {NULL, "STATE", LISTING_TEXT},
    {NULL, "WHY", LISTING_NOTE},
    {"state", NULL, LISTING_TEXT},
    {"workers", NULL, LISTING_NUMBER},
    {"paused_until", NULL, LISTING_TIME},
    {"paused_by", NULL, LISTING_TEXT},
    {"pause_reason", NULL, LISTING_TEXT},
    {"backs_off_until", NULL, LISTING_TIME},
    {"backoff_error", NULL, LISTING_TEXT},
    {"nearest_queue", NULL, LISTING_TEXT},
    {"script_error", NULL, LISTING_TEXT},
    {"executors", NULL, LISTING_NUMBER},
    {"longest_job", NULL, LISTING_NUMBER},
    {"longest_job_queue", NULL, LISTING_TEXT},
    {"longest_job_since", NULL, LISTING_TIME},
};

enum { NOTE_SIZE = 1024 };

_Static_assert(sizeof queues_columns / sizeof queues_columns[0] == QUEUES_COLUMNS, "as many as queues.h says");

struct state_row {
  const char *state; /* in queues.sql and in JSON */
  const char *title;
};

static const struct state_row state_rows[] = {
    {"served", "served"},       {"paused", "paused"},   {"backs_off", "backs off"},
    {"no_worker", "NO WORKER"}, {"starved", "STARVED"}, {"workers_cannot_run", "NO WORKER"},
};

/* The names of the queues that workers serve. */
struct registered {
  const char **names;
  int count;
};

static void read_registered(struct registered *registered, const PGresult *result) {
  registered->count = result ? PQntuples(result) : 0;
  registered->names = memory_new(((size_t)registered->count + 1) * sizeof *registered->names);
  for (int i = 0; i < registered->count; i++)
    registered->names[i] = PQgetvalue(result, i, 0);
}

static bool is_unserved(const PGresult *result, int row) {
  return strcmp(PQgetvalue(result, row, COLUMN_STATE), "no_worker") == 0 && PQgetisnull(result, row, COLUMN_SENTENCE);
}

bool queues_want_names(const PGresult *result) {
  for (int i = 0; i < PQntuples(result); i++)
    if (is_unserved(result, i))
      return true;
  return false;
}

/* Writes when something ends: "until it is resumed", or "for 5m more (until …)". */
static void write_end(char *text, size_t size, const char *until, const char *now) {
  char span[MOMENT_SIZE], iso[MOMENT_SIZE];
  int64_t ms = moment_between_ms(now, until);
  if (ms == INT64_MAX) {
    snprintf(text, size, "until it is resumed");
    return;
  }
  moment_span(span, ms / 1000 * 1000);
  moment_iso(iso, until);
  snprintf(text, size, "until %.19sZ, %s from now", iso, span);
}

/* Writes why the queue is in its state, unless it is served. `row` has the values of queues.sql. */
static void explain(char note[NOTE_SIZE], const char *const *row, const char *nearest, const char *now) {
  char until[160], span[MOMENT_SIZE], busy[80];
  const char *state = row[COLUMN_STATE] ? row[COLUMN_STATE] : "";
  *note = '\0';
  if (strcmp(state, "paused") == 0) {
    write_end(until, sizeof until, row[COLUMN_PAUSED_UNTIL], now);
    snprintf(note, NOTE_SIZE, "paused %s, by %.100s%s%.500s", until,
             row[COLUMN_PAUSED_BY] ? row[COLUMN_PAUSED_BY] : "?", row[COLUMN_PAUSE_REASON] ? ": " : "",
             row[COLUMN_PAUSE_REASON] ? row[COLUMN_PAUSE_REASON] : "");
  } else if (strcmp(state, "backs_off") == 0) {
    write_end(until, sizeof until, row[COLUMN_BACKS_OFF_UNTIL], now);
    snprintf(note, NOTE_SIZE, "backs off %s: %.500s", until,
             row[COLUMN_BACKOFF_ERROR] ? row[COLUMN_BACKOFF_ERROR] : "");
  } else if (strcmp(state, "no_worker") == 0 && row[COLUMN_SENTENCE]) {
    snprintf(note, NOTE_SIZE, "%.1000s", row[COLUMN_SENTENCE]);
  } else if (strcmp(state, "no_worker") == 0) {
    snprintf(note, NOTE_SIZE, "no worker registers this queue%s%.300s%s",
             nearest ? "; the nearest name that one registers is '" : "", nearest ? nearest : "", nearest ? "'" : "");
  } else if (strcmp(state, "workers_cannot_run") == 0) {
    snprintf(note, NOTE_SIZE, "no worker can run its script: %.900s", row[COLUMN_SCRIPT_ERROR]);
  } else if (strcmp(state, "starved") == 0) {
    moment_span(span, row[COLUMN_BUSIEST_SINCE] ? moment_between_ms(row[COLUMN_BUSIEST_SINCE], now) : 0);
    snprintf(busy, sizeof busy,
             strcmp(row[COLUMN_EXECUTORS], "1") == 0 ? "the only executor is" : "all %s executors are",
             row[COLUMN_EXECUTORS]);
    snprintf(note, NOTE_SIZE, "%s busy, for the longest time with job %s of %.300s: for %s", busy,
             row[COLUMN_BUSIEST_JOB] ? row[COLUMN_BUSIEST_JOB] : "?",
             row[COLUMN_BUSIEST_QUEUE] ? row[COLUMN_BUSIEST_QUEUE] : "?", span);
  }
}

static const char *find_title(const char *state) {
  for (size_t i = 0; state && i < sizeof state_rows / sizeof state_rows[0]; i++)
    if (strcmp(state_rows[i].state, state) == 0)
      return state_rows[i].title;
  return state;
}

static void add_queue(struct listing *listing, const PGresult *result, int number, const struct registered *registered,
                      const char *now) {
  const char *row[COLUMN_SENTENCE + 1];
  char note[NOTE_SIZE], p95[24];
  struct histogram run = {0};
  for (int i = 0; i <= COLUMN_SENTENCE; i++)
    row[i] = PQgetisnull(result, number, i) ? NULL : PQgetvalue(result, number, i);
  const char *nearest =
      is_unserved(result, number) ? nearest_word(row[COLUMN_NAME], registered->names, registered->count) : NULL;
  explain(note, row, nearest, now);
  histogram_add(&run, row[COLUMN_RUN_BUCKETS]);
  int64_t quantile_ms = histogram_quantile(&run, 0.95);
  snprintf(p95, sizeof p95, "%" PRId64, quantile_ms);
  const char *values[QUEUES_COLUMNS] = {
      row[COLUMN_NAME],
      row[COLUMN_DUE],
      row[COLUMN_OLDEST_DUE],
      row[COLUMN_RUNNING],
      row[COLUMN_LATER],
      row[COLUMN_FAILED],
      row[COLUMN_DONE],
      quantile_ms < 0 ? NULL : p95,
      find_title(row[COLUMN_STATE]),
      *note ? note : NULL,
      row[COLUMN_STATE],
      row[COLUMN_WORKERS],
      row[COLUMN_PAUSED_UNTIL],
      row[COLUMN_PAUSED_BY],
      row[COLUMN_PAUSE_REASON],
      row[COLUMN_BACKS_OFF_UNTIL],
      row[COLUMN_BACKOFF_ERROR],
      nearest,
      row[COLUMN_SCRIPT_ERROR],
      row[COLUMN_EXECUTORS],
      row[COLUMN_BUSIEST_JOB],
      row[COLUMN_BUSIEST_QUEUE],
      row[COLUMN_BUSIEST_SINCE],
  };
  listing_add(listing, values);
}

void queues_add(struct listing *listing, const PGresult *result, int most, const PGresult *names, const char *now) {
  struct registered registered;
  read_registered(&registered, names);
  for (int i = 0; i < PQntuples(result) && i < most; i++)
    add_queue(listing, result, i, &registered, now);
  free(registered.names);
}

/* Lists the queues that are the rows of queues.sql. Returns the exit status. */
static int list(const struct options *options, struct inquiry *inquiry, const PGresult *result) {
  struct listing listing;
  PGresult *names = NULL;
  if (queues_want_names(result) && !(names = inquiry_ask(inquiry, SQL_REGISTERED_QUEUES, 0, NULL)))
    return 1;
  listing_init(&listing, options, queues_columns, QUEUES_COLUMNS, inquiry->now);
  queues_add(&listing, result, PQntuples(result), names, inquiry->now);
  PQclear(names);
  return listing_finish(&listing, "queues", "There are no queues: no jobs, and no workers.") == 0 ? 0 : 1;
}

int queues_command(const struct options *options, int argc, char **argv) {
  struct inquiry inquiry;
  char limit[24];
  if (argc > 0)
    return refuse("queues", "queues [options]", "unexpected argument '%.100s'", argv[0]);
  if (inquiry_begin(&inquiry, options, "queues", QUEUES_NEEDS,
                    "with a smaller --limit it counts the jobs of fewer queues") != 0)
    return 1;
  PGresult *result = inquiry_ask(&inquiry, SQL_QUEUES, 3, (const char *[]){inquiry_limit(options, limit), NULL, "0"});
  int status = result ? list(options, &inquiry, result) : 1;
  PQclear(result);
  inquiry_end(&inquiry);
  return status;
}
