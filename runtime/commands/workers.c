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

static const struct listing_column columns[] = {
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

enum { COLUMNS = sizeof columns / sizeof columns[0] };

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

/* The jobs that the worker runs. Returns 0, or -1 if the database has failed. */
static int add_jobs(struct buffer *note, struct inquiry *inquiry, const char *id) {
  PGresult *result = inquiry_ask(inquiry, SQL_WORKER_JOBS, 1, &id);
  if (!result)
    return -1;
  for (int i = 0; i < PQntuples(result); i++) {
    char span[MOMENT_SIZE] = "?";
    if (!PQgetisnull(result, i, JOB_SINCE))
      moment_span(span, moment_between_ms(PQgetvalue(result, i, JOB_SINCE), inquiry->now) / 1000 * 1000);
    add(note, ", ",
        (const char *[]){
            "job ", PQgetvalue(result, i, JOB_ID), " of ", PQgetvalue(result, i, JOB_QUEUE), " for ", span, " in ",
            PQgetvalue(result, i, JOB_PID), *PQgetvalue(result, i, JOB_STUCK) == 't' ? " without waiting" : "",
            *PQgetvalue(result, i, JOB_IS_OLD) == 't' ? " with an older version of the script" : NULL, NULL});
  }
  PQclear(result);
  return 0;
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

/* Adds the worker in this row. Returns 0, or -1 if the database has failed. */
static int add_worker(struct listing *listing, struct inquiry *inquiry, const PGresult *result, int number) {
  const char *row[RESULT_COLUMNS];
  struct buffer trouble = {0}, queues = {0}, jobs = {0};
  char name[300], busy[60];
  for (int i = 0; i < RESULT_COLUMNS; i++)
    row[i] = PQgetisnull(result, number, i) ? NULL : PQgetvalue(result, number, i);
  snprintf(name, sizeof name, "%.270s:%s", row[COLUMN_HOST], row[COLUMN_PID]);
  snprintf(busy, sizeof busy, "%.20s/%.20s", row[COLUMN_BUSY] ? row[COLUMN_BUSY] : "0", row[COLUMN_EXECUTOR_COUNT]);
  add_trouble(&trouble, row, inquiry->now);
  if (listing_is_table(listing) && strlen(name) > NAME_MOST) /* the row may show only its beginning */
    add(&queues, "", (const char *[]){"worker ", name, NULL});
  if (*row[COLUMN_QUEUES_TEXT])
    add(&queues, "; ",
        (const char *[]){"queues: ", row[COLUMN_QUEUES_TEXT], *row[COLUMN_QUEUES_CUT] == 't' ? ", …" : NULL, NULL});
  int status = listing_is_json(listing) ? 0 : add_jobs(&jobs, inquiry, row[COLUMN_ID]);
  listing_add(listing, (const char *[COLUMNS]){row[COLUMN_ID],
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
  return status;
}

int workers_command(const struct options *options, int argc, char **argv) {
  struct inquiry inquiry;
  struct listing listing;
  char limit[24];
  if (argc > 0)
    return refuse("workers", "workers [options]", "unexpected argument '%.100s'", argv[0]);
  if (inquiry_begin(&inquiry, options, "workers", "{pgq_workers SELECT}", NULL) != 0)
    return 1;
  PGresult *result = inquiry_ask(&inquiry, SQL_WORKERS, 1, (const char *[]){inquiry_limit(options, limit)});
  int status = result ? 0 : -1;
  if (result) {
    listing_init(&listing, options, columns, COLUMNS, inquiry.now);
    for (int i = 0; i < PQntuples(result) && status == 0; i++)
      status = add_worker(&listing, &inquiry, result, i);
    if (listing_finish(&listing, "workers", "No worker runs.") != 0)
      status = -1;
  }
  PQclear(result);
  inquiry_end(&inquiry);
  return status == 0 ? 0 : 1;
}
