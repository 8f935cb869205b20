#include "show.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buffer.h"
#include "commands_sql.h"
#include "inquiry.h"
#include "listing.h"
#include "listing_table.h"
#include "moment.h"
#include "printable.h"
#include "refusal.h"
#include "show_data.h"
#include "text.h"

/* The columns of show_job.sql. */
enum column {
  COLUMN_ID,
  COLUMN_QUEUE,
  COLUMN_STATE,
  COLUMN_CREATED,
  COLUMN_RUN_AFTER,
  COLUMN_STARTED,
  COLUMN_RAN,
  COLUMN_ATTEMPT,
  COLUMN_RETRIES,
  COLUMN_WAITS,
  COLUMN_DEATHS,
  COLUMN_WORKER_ID,
  COLUMN_WORKER,
  COLUMN_ERROR,
  COLUMN_META,
  COLUMN_BYTES,
  ASKED_COLUMNS,
  COLUMN_WHY_CODE = ASKED_COLUMNS, /* these two are from pgq_why(), for a job that has not ended */
  COLUMN_WHY,
  JOB_COLUMNS,
};

/* The columns of show_attempts.sql. */
enum attempt_column {
  ATTEMPT_QUEUE,
  ATTEMPT_NUMBER,
  ATTEMPT_OUTCOME,
  ATTEMPT_STARTED,
  ATTEMPT_ENDED,
  ATTEMPT_WORKER_ID,
  ATTEMPT_WORKER,
  ATTEMPT_VERSION,
  ATTEMPT_ERROR,
  ATTEMPT_TRACEBACK,
  ATTEMPT_RUN_MS,
  ATTEMPT_COLUMNS,
};

/* With --json: those of show_job.sql, then the attempts, then the data. */
static const struct listing_column columns[] = {
    {"id", NULL, LISTING_NUMBER},         {"queue", NULL, LISTING_TEXT},     {"state", NULL, LISTING_TEXT},
    {"created_at", NULL, LISTING_TIME},   {"run_after", NULL, LISTING_TIME}, {"started_at", NULL, LISTING_TIME},
    {"ran_at", NULL, LISTING_TIME},       {"attempt", NULL, LISTING_NUMBER}, {"retries_left", NULL, LISTING_NUMBER},
    {"retry_waits", NULL, LISTING_JSON},  {"deaths", NULL, LISTING_NUMBER},  {"worker_id", NULL, LISTING_NUMBER},
    {"worker", NULL, LISTING_TEXT},       {"error", NULL, LISTING_TEXT},     {"meta", NULL, LISTING_JSON},
    {"data_bytes", NULL, LISTING_NUMBER}, {"why_code", NULL, LISTING_TEXT},  {"why", NULL, LISTING_TEXT},
    {"attempts", NULL, LISTING_JSON},     {"data", NULL, LISTING_TEXT},      {"data_hex", NULL, LISTING_TEXT},
};

enum { COLUMNS = sizeof columns / sizeof columns[0], DATA_COLUMNS = 2 };

static const char *get(const PGresult *result, int row, int column) {
  return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

static void print_field(const struct shown *shown, const char *label, const char *value) {
  listing_table_field(shown->out, label, value, shown->width);
}

/* Prints a time as "2026-11-30T17:20:10.123456Z, 3m ago", if there is one. */
static void print_time(const struct shown *shown, const char *label, const char *value) {
  char iso[MOMENT_SIZE], relative[MOMENT_SIZE], text[2 * MOMENT_SIZE + 2];
  if (!value)
    return;
  moment_iso(iso, value);
  moment_relative(relative, value, shown->now);
  snprintf(text, sizeof text, "%s, %s", iso, relative);
  print_field(shown, label, text);
}

/* Prints how many attempts there were, and for a job that has not ended, how many retries are left, and after which
 * waits: a JSON array of texts without quotes in them. */
static void print_attempts(const struct shown *shown, const char *const *row) {
  struct buffer text = {0};
  const char *waits = row[COLUMN_WAITS] ? row[COLUMN_WAITS] : "[?]", *left = row[COLUMN_RETRIES];
  buffer_add(&text, row[COLUMN_ATTEMPT], strlen(row[COLUMN_ATTEMPT]));
  if (!row[COLUMN_RAN]) {
    const char *more = strcmp(left, "0") == 0 ? "; no retry is left" : "; retries left: ";
    buffer_add(&text, more, strlen(more));
    if (strcmp(left, "0") != 0)
      buffer_add(&text, left, strlen(left));
    for (const char *c = waits; strcmp(left, "0") != 0 && *c; c++)
      if (*c != '"')
        buffer_add(&text, *c == '[' ? ", after " : *c == ',' ? ", " : c, *c == '[' ? 8 : *c == ',' ? 2 : *c != ']');
  }
  buffer_add(&text, "", 1);
  print_field(shown, "attempts", (const char *)text.bytes);
  buffer_free(&text);
}

/* Sets the fields of the job. */
static void read_row(const struct shown *shown, const char *row[JOB_COLUMNS]) {
  for (int i = 0; i < ASKED_COLUMNS; i++)
    row[i] = get(shown->job, 0, i);
  row[COLUMN_WHY_CODE] = shown->why ? get(shown->why, 0, 0) : NULL;
  row[COLUMN_WHY] = shown->why ? get(shown->why, 0, 1) : NULL;
}

static void print_job(const struct shown *shown) {
  char text[1200];
  const char *row[JOB_COLUMNS];
  read_row(shown, row);
  snprintf(text, sizeof text, "job %s of the queue %.1000s: %s", row[COLUMN_ID], row[COLUMN_QUEUE], row[COLUMN_STATE]);
  struct buffer title = {0};
  printable_add(&title, text, PRINTABLE_CELL);
  fprintf(shown->out, "%.*s\n", (int)title.length, (const char *)title.bytes);
  buffer_free(&title);
  bool runs = strcmp(row[COLUMN_STATE], "running") == 0;
  print_field(shown, "why", row[COLUMN_WHY]);
  print_time(shown, "enqueued", row[COLUMN_CREATED]);
  if (!row[COLUMN_RAN])
    print_time(shown, runs ? "lease ends" : "due", row[COLUMN_RUN_AFTER]);
  print_time(shown, "began", row[COLUMN_STARTED]);
  print_time(shown, "ended", row[COLUMN_RAN]);
  print_attempts(shown, row);
  if (strcmp(row[COLUMN_DEATHS], "0") != 0)
    print_field(shown, "deaths", row[COLUMN_DEATHS]);
  if (row[COLUMN_WORKER_ID]) {
    snprintf(text, sizeof text, "%.300s, with id %s", row[COLUMN_WORKER] ? row[COLUMN_WORKER] : "one that is gone",
             row[COLUMN_WORKER_ID]);
    print_field(shown, "worker", text);
  }
  print_field(shown, "error", row[COLUMN_ERROR]);
  print_field(shown, "meta", row[COLUMN_META]);
  snprintf(text, sizeof text, "%s bytes", row[COLUMN_BYTES]);
  print_field(shown, "data", text);
}

static void print_attempt(const struct shown *shown, int number) {
  char text[400], span[MOMENT_SIZE];
  const char *row[ATTEMPT_COLUMNS];
  for (int i = 0; i < ATTEMPT_COLUMNS; i++)
    row[i] = get(shown->attempts, number, i);
  fprintf(shown->out, "\nattempt %s: %s\n", row[ATTEMPT_NUMBER], row[ATTEMPT_OUTCOME]);
  print_time(shown, "began", row[ATTEMPT_STARTED]);
  print_time(shown, "ended", row[ATTEMPT_ENDED]);
  if (row[ATTEMPT_RUN_MS]) {
    moment_span(span, strtoll(row[ATTEMPT_RUN_MS], NULL, 10));
    print_field(shown, "took", span);
  }
  if (row[ATTEMPT_WORKER] || row[ATTEMPT_WORKER_ID]) {
    snprintf(text, sizeof text, "%.300s, with id %s", row[ATTEMPT_WORKER] ? row[ATTEMPT_WORKER] : "one that has died",
             row[ATTEMPT_WORKER_ID] ? row[ATTEMPT_WORKER_ID] : "?");
    print_field(shown, "worker", text);
  }
  print_field(shown, "version", row[ATTEMPT_VERSION]);
  print_field(shown, "error", row[ATTEMPT_ERROR]);
  print_field(shown, "traceback", row[ATTEMPT_TRACEBACK]);
}

static void add_text(cJSON *object, const char *name, const char *value) {
  cJSON_AddItemToObject(object, name, value ? cJSON_CreateString(value) : cJSON_CreateNull());
}

static void add_number(cJSON *object, const char *name, const char *value) {
  cJSON_AddItemToObject(object, name, value ? cJSON_CreateRaw(value) : cJSON_CreateNull());
}

static void add_time(cJSON *object, const char *name, const char *value) {
  char iso[MOMENT_SIZE];
  if (value)
    moment_iso(iso, value);
  add_text(object, name, value ? iso : NULL);
}

/* The attempts as a JSON array, which the caller frees with cJSON_free(). */
static char *make_attempts(const PGresult *attempts) {
  cJSON *array = cJSON_CreateArray();
  for (int i = 0; i < PQntuples(attempts); i++) {
    cJSON *object = cJSON_CreateObject();
    add_number(object, "attempt", get(attempts, i, ATTEMPT_NUMBER));
    add_text(object, "outcome", get(attempts, i, ATTEMPT_OUTCOME));
    add_time(object, "started_at", get(attempts, i, ATTEMPT_STARTED));
    add_time(object, "ended_at", get(attempts, i, ATTEMPT_ENDED));
    add_number(object, "run_ms", get(attempts, i, ATTEMPT_RUN_MS));
    add_number(object, "worker_id", get(attempts, i, ATTEMPT_WORKER_ID));
    add_text(object, "worker", get(attempts, i, ATTEMPT_WORKER));
    add_text(object, "version", get(attempts, i, ATTEMPT_VERSION));
    add_text(object, "error", get(attempts, i, ATTEMPT_ERROR));
    add_text(object, "traceback", get(attempts, i, ATTEMPT_TRACEBACK));
    cJSON_AddItemToArray(array, object);
  }
  char *text = cJSON_PrintUnformatted(array);
  cJSON_Delete(array);
  return text;
}

static int print_json(const struct options *options, const struct shown *shown, const PGresult *data) {
  struct listing listing;
  const char *row[COLUMNS] = {shown->id};
  char *attempts = make_attempts(shown->attempts), *hex = NULL;
  if (PQntuples(shown->job) > 0)
    read_row(shown, row);
  else {
    row[COLUMN_QUEUE] = get(shown->attempts, 0, ATTEMPT_QUEUE);
    row[COLUMN_STATE] = "deleted";
  }
  row[JOB_COLUMNS] = attempts;
  if (data && text_is_utf8(PQgetvalue(data, 0, 0), (size_t)PQgetlength(data, 0, 0)))
    row[JOB_COLUMNS + 1] = PQgetvalue(data, 0, 0);
  else if (data)
    row[JOB_COLUMNS + 2] = hex = show_data_hex(data);
  listing_init(&listing, options, columns, data ? COLUMNS : COLUMNS - DATA_COLUMNS, shown->now);
  listing_add(&listing, row);
  cJSON_free(attempts);
  free(hex);
  return listing_finish(&listing, "show", "");
}

void show_print(const struct shown *shown) {
  if (PQntuples(shown->job) > 0)
    print_job(shown);
  else
    fprintf(shown->out, "job %s is not in the table any more: it was completed, or deleted\n", shown->id);
  for (int i = 0; i < PQntuples(shown->attempts); i++)
    print_attempt(shown, i);
}

bool show_wants_why(const PGresult *job) {
  return PQntuples(job) > 0 && PQgetisnull(job, 0, COLUMN_RAN);
}

static int print_text(const struct shown *shown) {
  show_print(shown);
  if (fflush(stdout) == 0 && !ferror(stdout))
    return 0;
  fprintf(stderr, "pgq-lua show: the job could not be printed: %s\n", strerror(errno));
  return -1;
}

/* Prints the job, and with --json its data if `data` is not NULL. Returns 0 or -1. */
static int show_job(const struct options *options, struct inquiry *inquiry, const char *id, const PGresult *data) {
  char limit[24];
  int status = -1;
  PGresult *job = inquiry_ask(inquiry, SQL_SHOW_JOB, 1, &id), *attempts = NULL, *why = NULL;
  bool waits = job && show_wants_why(job);
  if (waits)
    why = inquiry_ask(inquiry, SHOW_WHY, 1, &id);
  if (job && (why || !waits))
    attempts = inquiry_ask(inquiry, SQL_SHOW_ATTEMPTS, 2, (const char *[]){id, inquiry_limit(options, limit)});
  struct shown shown = {stdout, isatty(STDOUT_FILENO) ? listing_table_width() : 0, inquiry->now, id, job, attempts,
                        why};
  if (attempts && PQntuples(job) == 0 && PQntuples(attempts) == 0)
    fprintf(stderr, "pgq-lua show: there is no job %s: it was completed and deleted, or never enqueued\n", id);
  else if (attempts)
    status = options->json ? print_json(options, &shown, data) : print_text(&shown);
  PQclear(why);
  PQclear(attempts);
  PQclear(job);
  return status;
}

/* Returns the problem with the words of the command, or NULL. */
static const char *find_misuse(const struct options *options, int argc, char **argv) {
  if (argc != 1)
    return argc < 1 ? "the id of a job is missing" : "there is more than one id";
  if (options->data && options->data_file)
    return "--data and --data-file exclude each other";
  const char *digits = argv[0] + (*argv[0] == '-');
  errno = 0;
  strtoll(argv[0], NULL, 10);
  if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0' || errno == ERANGE)
    return "the id is not the number of a job, as enqueueing prints it";
  return NULL;
}

int show_command(const struct options *options, int argc, char **argv) {
  struct inquiry inquiry;
  PGresult *data = NULL;
  char id[24];
  const char *misuse = find_misuse(options, argc, argv);
  if (misuse)
    return refuse("show", "show [options] ID", "%s", misuse);
  if (inquiry_begin(&inquiry, options, "show", SHOW_NEEDS, NULL) != 0)
    return 1;
  snprintf(id, sizeof id, "%lld", strtoll(argv[0], NULL, 10));
  bool wants_data = options->data || options->data_file;
  int status = wants_data && !(data = show_data_fetch(&inquiry, id)) ? -1 : 0;
  if (data && !(options->json && options->data))
    status = show_data_print(options, data);
  else if (status == 0)
    status = show_job(options, &inquiry, id, data);
  PQclear(data);
  inquiry_end(&inquiry);
  return status == 0 ? 0 : 1;
}
