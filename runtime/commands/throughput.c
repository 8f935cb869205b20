#include "throughput.h"

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
#include "refusal.h"
#include "selection.h"

#define SINCE "1h"

/* How many rows of pgq_stats are read at most, and how many minutes are listed without --limit: a day. */
enum { MOST_ROWS = 100000, MOST_MINUTES = 1440 };

/* The columns of stats.sql. */
enum column {
  COLUMN_MINUTE,
  COLUMN_COMPLETED,
  COLUMN_FAILED,
  COLUMN_RETRIED,
  COLUMN_SNOOZED,
  COLUMN_CANCELLED,
  COLUMN_WAIT_MS,
  COLUMN_RUN_MS,
  COLUMN_WAIT_BUCKETS,
  COLUMN_RUN_BUCKETS,
  FIRST_COUNT = COLUMN_COMPLETED,
  COUNTS = COLUMN_CANCELLED - COLUMN_COMPLETED + 1,
};

static const struct listing_column columns[] = {
    {NULL, "MINUTE", LISTING_TEXT},
    {"minute", NULL, LISTING_TIME},
    {"queue", NULL, LISTING_TEXT},
    {"completed", "DONE", LISTING_NUMBER},
    {"failed", "FAILED", LISTING_NUMBER},
    {"retried", "RETRIED", LISTING_NUMBER},
    {"snoozed", NULL, LISTING_NUMBER},
    {"cancelled", NULL, LISTING_NUMBER},
    {"wait_p50_ms", "WAIT P50", LISTING_DURATION},
    {"wait_p95_ms", "P95", LISTING_DURATION},
    {"run_p50_ms", "RUN P50", LISTING_DURATION},
    {"run_p95_ms", "P95", LISTING_DURATION},
    {"wait_sum_ms", NULL, LISTING_NUMBER},
    {"run_sum_ms", NULL, LISTING_NUMBER},
};

enum { COLUMNS = sizeof columns / sizeof columns[0], QUANTILES = 4 };

/* The sum of all queues in a minute. */
struct minute {
  const char *minute;
  int64_t counts[COUNTS];
  double wait_ms, run_ms;
  struct histogram wait, run;
};

static void add_row(struct minute *minute, const PGresult *result, int row) {
  for (int i = 0; i < COUNTS; i++)
    minute->counts[i] += strtoll(PQgetvalue(result, row, FIRST_COUNT + i), NULL, 10);
  minute->wait_ms += strtod(PQgetvalue(result, row, COLUMN_WAIT_MS), NULL);
  minute->run_ms += strtod(PQgetvalue(result, row, COLUMN_RUN_MS), NULL);
  histogram_add(&minute->wait, PQgetvalue(result, row, COLUMN_WAIT_BUCKETS));
  histogram_add(&minute->run, PQgetvalue(result, row, COLUMN_RUN_BUCKETS));
}

/* Adds up the rows of each minute, the last one first, for at most `most` minutes. Returns how many there are. */
static int sum_minutes(struct minute *minutes, int most, const PGresult *result) {
  int count = 0;
  for (int row = 0; row < PQntuples(result); row++) {
    const char *minute = PQgetvalue(result, row, COLUMN_MINUTE);
    if (count == 0 || strcmp(minutes[count - 1].minute, minute) != 0) {
      if (count == most)
        break;
      minutes[count++] = (struct minute){.minute = minute};
    }
    add_row(&minutes[count - 1], result, row);
  }
  return count;
}

static void list_minute(struct listing *listing, const struct minute *minute, const char *queue) {
  const int64_t quantiles[QUANTILES] = {histogram_quantile(&minute->wait, 0.5), histogram_quantile(&minute->wait, 0.95),
                                        histogram_quantile(&minute->run, 0.5), histogram_quantile(&minute->run, 0.95)};
  char iso[MOMENT_SIZE], short_iso[MOMENT_SIZE], numbers[COUNTS + QUANTILES][24], sums[2][32];
  const char *values[COLUMNS] = {short_iso, minute->minute, queue};
  moment_iso(iso, minute->minute);
  if (listing_is_table(listing)) /* 11-30 17:20Z */
    snprintf(short_iso, sizeof short_iso, "%.5s %.5sZ", iso + strlen("2026-"), iso + strlen("2026-11-30T"));
  else
    snprintf(short_iso, sizeof short_iso, "%.16sZ", iso);
  for (int i = 0; i < COUNTS + QUANTILES; i++) {
    int64_t number = i < COUNTS ? minute->counts[i] : quantiles[i - COUNTS];
    snprintf(numbers[i], sizeof numbers[i], "%" PRId64, number);
    values[3 + i] = number < 0 ? NULL : numbers[i];
  }
  snprintf(sums[0], sizeof sums[0], "%.0f", minute->wait_ms);
  snprintf(sums[1], sizeof sums[1], "%.0f", minute->run_ms);
  values[COLUMNS - 2] = sums[0];
  values[COLUMNS - 1] = sums[1];
  listing_add(listing, values);
}

static int list_minutes(const struct options *options, struct inquiry *inquiry, const struct selection *selection) {
  struct listing listing;
  char most_rows[24];
  int64_t most = options->limit > 0 && options->limit < MOST_MINUTES ? options->limit : MOST_MINUTES;
  snprintf(most_rows, sizeof most_rows, "%d", MOST_ROWS);
  PGresult *result = inquiry_ask(inquiry, SQL_STATS, 4,
                                 (const char *[]){selection->queue, selection->since, selection->before, most_rows});
  if (!result)
    return -1;
  struct minute *minutes = memory_new((size_t)most * sizeof *minutes);
  int count = sum_minutes(minutes, (int)most, result);
  bool is_cut = PQntuples(result) == MOST_ROWS && count < most;
  listing_init(&listing, options, columns, COLUMNS, inquiry->now);
  for (int i = count - 1 - is_cut; i >= 0; i--) /* the first minute may be incomplete then */
    list_minute(&listing, &minutes[i], selection->queue);
  int status = listing_finish(&listing, "stats", "No job has ended in this time, as far as the workers have reported.");
  if (is_cut)
    fprintf(stderr, "pgq-lua stats: only the last %d minutes were read: they have %d rows\n", count - 1, MOST_ROWS);
  free(minutes);
  PQclear(result);
  return status;
}

int stats_command(const struct options *options, int argc, char **argv) {
  struct selection selection;
  struct inquiry inquiry;
  struct options with_since = *options;
  if (argc > 1)
    return refuse("stats", "stats [options] [QUEUE]", "there is more than one queue");
  if (!options->since)
    with_since.since = SINCE;
  if (selection_read(&selection, &with_since, "stats") != 0)
    return 2;
  if (argc == 1)
    selection.queue = argv[0];
  if (inquiry_begin(&inquiry, options, "stats", "{pgq_stats SELECT}", "name a queue, or a later --since") != 0) {
    selection_free(&selection);
    return 1;
  }
  int status = selection_resolve(&selection, &inquiry.transaction);
  if (status == 0)
    status = list_minutes(options, &inquiry, &selection);
  inquiry_end(&inquiry);
  selection_free(&selection);
  return status == 0 ? 0 : inquiry.transaction.refused ? 2 : 1;
}
