#include "why.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inquiry.h"
#include "listing.h"
#include "refusal.h"

/* The columns of the functions pgq_why and pgq_why_queue (sql/schema/pgq_why.sql). */
enum column { COLUMN_CODE, COLUMN_SENTENCE, COLUMN_UNTIL, COLUMN_WHO };

static const struct listing_column columns[] = {
    {"id", NULL, LISTING_NUMBER},     {"queue", NULL, LISTING_TEXT},     {"code", "CODE", LISTING_TEXT},
    {"until", "UNTIL", LISTING_TIME}, {"sentence", "WHY", LISTING_NOTE}, {"who", NULL, LISTING_JSON},
};

enum { COLUMNS = sizeof columns / sizeof columns[0] };

static bool is_number(const char *word) {
  return *word && word[strspn(word, "0123456789")] == '\0';
}

/* Returns the problem with the words of the command, or NULL. */
static const char *find_misuse(const struct options *options, int argc, char **argv) {
  if (options->queue)
    return argc > 0 ? "with --queue there is nothing else to name" : NULL;
  if (argc < 1)
    return "the id of a job or the name of a queue is missing";
  if (argc > 1)
    return "there is an unexpected argument; name one job or one queue";
  errno = 0;
  if (is_number(argv[0]))
    strtoll(argv[0], NULL, 10);
  return errno == ERANGE ? "the number is too large for the id of a job; a queue is named by --queue" : NULL;
}

static int print(const struct options *options, struct inquiry *inquiry, const char *id, const char *queue,
                 const PGresult *result) {
  struct listing listing;
  const char *row[COLUMN_WHO + 1], *values[COLUMNS];
  listing_init(&listing, options, columns, COLUMNS, inquiry->now);
  for (int i = 0; i <= COLUMN_WHO; i++)
    row[i] = PQgetisnull(result, 0, i) ? NULL : PQgetvalue(result, 0, i);
  values[0] = id;
  values[1] = queue;
  values[2] = row[COLUMN_CODE];
  values[3] = row[COLUMN_UNTIL];
  values[4] = row[COLUMN_SENTENCE];
  values[5] = row[COLUMN_WHO];
  listing_add(&listing, values);
  if (listing_finish(&listing, "why", "") != 0)
    return 1;
  return row[COLUMN_CODE] && strcmp(row[COLUMN_CODE], "unknown") == 0 ? 1 : 0;
}

int why_command(const struct options *options, int argc, char **argv) {
  static const char ask_job[] = "SELECT code, sentence, until, who FROM pgq_why($1::pg_catalog.int8)";
  static const char ask_queue[] = "SELECT code, sentence, until, who FROM pgq_why_queue($1::pg_catalog.text)";
  struct inquiry inquiry;
  const char *misuse = find_misuse(options, argc, argv);
  if (misuse)
    return refuse("why", "why [options] ID | QUEUE", "%s", misuse);
  char number[24];
  const char *id = !options->queue && is_number(argv[0]) ? number : NULL;
  if (id)
    snprintf(number, sizeof number, "%lld", strtoll(argv[0], NULL, 10));
  const char *queue = options->queue ? options->queue : id ? NULL : argv[0];
  if (inquiry_begin(&inquiry, options, "why",
                    "{pgq_jobs SELECT,pgq_workers SELECT,pgq_queues SELECT,pgq_attempts SELECT,pgq_stats SELECT}",
                    NULL) != 0)
    return 1;
  PGresult *result = inquiry_ask(&inquiry, id ? ask_job : ask_queue, 1, (const char *[]){id ? id : queue});
  int status = result ? print(options, &inquiry, id, queue, result) : 1;
  PQclear(result);
  inquiry_end(&inquiry);
  return status;
}
