#include "workers.h"

#include <stdio.h>
#include <string.h>

#include "buffer.h"
#include "commands_sql.h"
#include "inquiry.h"
#include "listing.h"
#include "moment.h"
#include "refusal.h"

/* The columns of workers.sql. */
enum column {
  COLUMN_ID,
  COLUMN_HOST,
  COLUMN_PID,
  COLUMN_VERSION,
  COLUMN_STARTED,
  COLUMN_SEEN,
  COLUMN_IS_SILENT,
  COLUMN_POOLED,
  COLUMN_MISSING,
  COLUMN_REQUEST,
  COLUMN_QUEUES,
  COLUMN_QUEUES_TEXT,
  COLUMN_QUEUES_CUT,
  COLUMN_STAGE,
  COLUMN_SCRIPT,
  COLUMN_SCRIPT_VERSION,
  COLUMN_SCRIPT_ERROR,
  COLUMN_ERROR,
  COLUMN_OPTIONS,
  COLUMN_MEMORY,
  COLUMN_LEASES,
  COLUMN_EXECUTORS,
  COLUMN_QUEUES_STATUS,
  COLUMN_EXECUTOR_COUNT,
  COLUMN_BUSY,
  COLUMN_IN_FLIGHT,
  RESULT_COLUMNS,
};

/* The columns of worker_jobs.sql. */
enum job_column { JOB_PID, JOB_ID, JOB_QUEUE, JOB_SINCE, JOB_STUCK, JOB_IS_OLD };

const struct listing_column workers_columns[] = {
    {"id", "ID", LISTING_NUMBER},           {NULL, "WORKER", LISTING_LONG},
    {"last_seen_at", "SEEN", LISTING_TIME}, {"stage", "STAGE", LISTING_TEXT},
    {NULL, "SCRIPT", LISTING_LONG},         {"script_version", "VERSION", LISTING_TEXT},
    {NULL, "BUSY", LISTING_TEXT},           {"in_flight", "JOBS", LISTING_NUMBER},
    {NULL, "TROUBLE", LISTING_NOTE},        {NULL, "QUEUES", LISTING_NOTE},
    {NULL, "RUNNING", LISTING_NOTE},        {"host", NULL, LISTING_TEXT},
    {"pid", NULL, LISTING_NUMBER},          {"version", NULL, LISTING_TEXT},
    {"started_at", NULL, LISTING_TIME},     {"pooled", NULL, LISTING_FLAG},
    {"missing_since", NULL, LISTING_TIME},  {"request", NULL, LISTING_TEXT},
    {"queues", NULL, LISTING_JSON},         {"script", NULL, LISTING_TEXT},
    {"script_error", NULL, LISTING_TEXT},   {"error", NULL, LISTING_TEXT},
    {"options", NULL, LISTING_JSON},        {"memory_bytes", NULL, LISTING_NUMBER},
    {"leases", NULL, LISTING_NUMBER},       {"executors", NULL, LISTING_JSON},
    {"queues_status", NULL, LISTING_JSON},
};

/* A longer name of a worker may be cut in a table of 80 columns. */
enum { NAME_MOST = 18 };

_Static_assert(sizeof workers_columns / sizeof workers_columns[0] == WORKERS_COLUMNS, "as many as workers.h says");

/* Adds the texts, the last of which is NULL, with a separator in front unless they are the first. */
static void add(struct buffer *note, const char *separator, const char *const *texts) {
  if (note->length > 0)
    buffer_add(note, separator, strlen(separator));
  for (; *texts; texts++)
    buffer_add(note, *texts, strlen(*texts));
}

/* What is wrong with the worker, or what is asked of it. */
static void add_trouble(struct buffer *note, const char *const *row, const char *now) {
  char span[MOMENT_SIZE];
  if (*row[COLUMN_IS_SILENT] == 't') {
    moment_span(span, moment_between_ms(row[COLUMN_SEEN], now) / 1000 * 1000);
    add(note, "; ", (const char *[]){"no heartbeat for ", span, NULL});
  }
  if (row[COLUMN_MISSING]) {
    moment_span(span, moment_between_ms(row[COLUMN_MISSING], now) / 1000 * 1000);
    add(note, "; ", (const char *[]){"its session has been gone for ", span, NULL});
  }
  if (row[COLUMN_SCRIPT_ERROR])
    add(note, "; ", (const char *[]){"the script cannot be run: ", row[COLUMN_SCRIPT_ERROR], NULL});
  if (row[COLUMN_ERROR])
    add(note, "; ", (const char *[]){"connection: ", row[COLUMN_ERROR], NULL});
  if (row[COLUMN_REQUEST])
    add(note, "; ", (const char *[]){"asked to ", row[COLUMN_REQUEST], NULL});
}

/* The jobs that the worker runs: the rows of worker_jobs.sql. */
static void add_jobs(struct buffer *note, const PGresult *result, const char *now) {
  for (int i = 0; i < PQntuples(result); i++) {
    char span[MOMENT_SIZE] = "?";
    if (!PQgetisnull(result, i, JOB_SINCE))
      moment_span(span, moment_between_ms(PQgetvalue(result, i, JOB_SINCE), now) / 1000 * 1000);
    add(note, ", ",
        (const char *[]){
            "job ", PQgetvalue(result, i, JOB_ID), " of ", PQgetvalue(result, i, JOB_QUEUE), " for ", span, " in ",
            PQgetvalue(result, i, JOB_PID), *PQgetvalue(result, i, JOB_STUCK) == 't' ? " without waiting" : "",
            *PQgetvalue(result, i, JOB_IS_OLD) == 't' ? " with an older version of the script" : NULL, NULL});
  }
}

/* Ends the note, and returns its text, or NULL if there is none. */
static const char *finish(struct buffer *note) {
  if (note->length == 0)
    return NULL;
  buffer_add(note, "", 1);
  return (const char *)note->bytes;
}

static const char *shorten(const struct listing *listing, const char *script) {
  const char *slash = script && listing_is_table(listing) ? strrchr(script, '/') : NULL;
  return slash ? slash + 1 : script;
}

void workers_add(struct listing *listing, const PGresult *result, int number, const PGresult *running,
                 const char *now) {
  const char *row[RESULT_COLUMNS];
  struct buffer trouble = {0}, queues = {0}, jobs = {0};
  char name[300], busy[60];
  for (int i = 0; i < RESULT_COLUMNS; i++)
    row[i] = PQgetisnull(result, number, i) ? NULL : PQgetvalue(result, number, i);
  snprintf(name, sizeof name, "%.270s:%s", row[COLUMN_HOST], row[COLUMN_PID]);
  snprintf(busy, sizeof busy, "%.20s/%.20s", row[COLUMN_BUSY] ? row[COLUMN_BUSY] : "0", row[COLUMN_EXECUTOR_COUNT]);
  add_trouble(&trouble, row, now);
  if (listing_is_table(listing) && strlen(name) > NAME_MOST) /* the row may show only its beginning */
    add(&queues, "", (const char *[]){"worker ", name, NULL});
  if (*row[COLUMN_QUEUES_TEXT])
    add(&queues, "; ",
        (const char *[]){"queues: ", row[COLUMN_QUEUES_TEXT], *row[COLUMN_QUEUES_CUT] == 't' ? ", …" : NULL, NULL});
  if (running)
    add_jobs(&jobs, running, now);
  listing_add(listing, (const char *[WORKERS_COLUMNS]){row[COLUMN_ID],
                                                       name,
                                                       row[COLUMN_SEEN],
                                                       row[COLUMN_STAGE],
                                                       shorten(listing, row[COLUMN_SCRIPT]),
                                                       row[COLUMN_SCRIPT_VERSION],
                                                       busy,
                                                       row[COLUMN_IN_FLIGHT],
                                                       finish(&trouble),
                                                       finish(&queues),
                                                       finish(&jobs),
                                                       row[COLUMN_HOST],
                                                       row[COLUMN_PID],
                                                       row[COLUMN_VERSION],
                                                       row[COLUMN_STARTED],
                                                       row[COLUMN_POOLED],
                                                       row[COLUMN_MISSING],
                                                       row[COLUMN_REQUEST],
                                                       row[COLUMN_QUEUES],
                                                       row[COLUMN_SCRIPT],
                                                       row[COLUMN_SCRIPT_ERROR],
                                                       row[COLUMN_ERROR],
                                                       row[COLUMN_OPTIONS],
                                                       row[COLUMN_MEMORY],
                                                       row[COLUMN_LEASES],
                                                       row[COLUMN_EXECUTORS],
                                                       row[COLUMN_QUEUES_STATUS]});
  buffer_free(&trouble);
  buffer_free(&queues);
  buffer_free(&jobs);
}

/* Lists the workers that are the rows of workers.sql. Returns 0 or -1. */
static int list(const struct options *options, struct inquiry *inquiry, const PGresult *result) {
  struct listing listing;
  int status = 0;
  listing_init(&listing, options, workers_columns, WORKERS_COLUMNS, inquiry->now);
  for (int i = 0; i < PQntuples(result) && status == 0; i++) {
    PGresult *running = NULL;
    if (!listing_is_json(&listing)) {
      running = inquiry_ask(inquiry, SQL_WORKER_JOBS, 1, (const char *[]){PQgetvalue(result, i, COLUMN_ID)});
      status = running ? 0 : -1;
    }
    if (status == 0)
      workers_add(&listing, result, i, running, inquiry->now);
    PQclear(running);
  }
  return listing_finish(&listing, "workers", "No worker runs.") == 0 ? status : -1;
}

int workers_command(const struct options *options, int argc, char **argv) {
  struct inquiry inquiry;
  char limit[24];
  if (argc > 0)
    return refuse("workers", "workers [options]", "unexpected argument '%.100s'", argv[0]);
  if (inquiry_begin(&inquiry, options, "workers", WORKERS_NEEDS, NULL) != 0)
    return 1;
  PGresult *result = inquiry_ask(&inquiry, SQL_WORKERS, 3, (const char *[]){inquiry_limit(options, limit), "0", NULL});
  int status = result ? list(options, &inquiry, result) : -1;
  PQclear(result);
  inquiry_end(&inquiry);
  return status == 0 ? 0 : 1;
}
