#include "stats.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"
#include "pipeline.h"

/* A statement has the numbers of at most so many queues. */
enum { QUEUES_MOST = 1000 };

/* The numbers of a queue that are on their way to the database. */
struct share {
  struct queue *queue;
  struct tally tally;
};

struct stats {
  const struct queue_list *queues;
  void (*act)(void *owner, enum statement statement, const struct parameters *parameters);
  void *owner;
  struct share *shares; /* sent and not answered; they are still in the tallies, too */
  int count;
  struct queue *next; /* where the next statement begins, so that each queue has its turn */
  bool failure_logged;
};

struct stats *stats_new(const struct queue_list *queues,
                        void (*act)(void *owner, enum statement statement, const struct parameters *parameters),
                        void *owner) {
  struct stats *stats = memory_new(sizeof *stats);
  *stats = (struct stats){.queues = queues, .act = act, .owner = owner};
  return stats;
}

void stats_free(struct stats *stats) {
  if (!stats)
    return;
  free(stats->shares);
  free(stats);
}

void stats_down(struct stats *stats) {
  stats->count = 0;
}

/* Takes the shares of the queues that have something to say. */
static void collect(struct stats *stats) {
  struct queue *queue = stats->next ? stats->next : stats->queues->first;
  for (int seen = 0; queue && seen < stats->queues->count && stats->count < QUEUES_MOST; seen++) {
    if (!tally_is_empty(&queue->tally)) {
      stats->shares = memory_resize(stats->shares, (size_t)(stats->count + 1) * sizeof *stats->shares);
      stats->shares[stats->count++] = (struct share){queue, queue->tally};
    }
    queue = queue->next ? queue->next : stats->queues->first;
  }
  stats->next = queue;
}

/* How many of the buckets are used. */
static int32_t count_used(const struct tally *tally) {
  for (int32_t used = TALLY_BUCKETS; used > 0; used--)
    if (tally->waits[used - 1] != 0 || tally->runs[used - 1] != 0)
      return used;
  return 0;
}

static void add_numbers(const struct stats *stats, size_t offset, struct parameters *parameters) {
  int64_t *numbers = memory_new((size_t)stats->count * sizeof *numbers);
  for (int i = 0; i < stats->count; i++)
    memcpy(&numbers[i], (const char *)&stats->shares[i].tally + offset, sizeof *numbers);
  parameters_add_i64_array(parameters, numbers, NULL, stats->count);
  free(numbers);
}

static void add_buckets(const struct stats *stats, size_t offset, struct parameters *parameters) {
  int64_t *buckets = memory_new((size_t)stats->count * TALLY_BUCKETS * sizeof *buckets);
  for (int i = 0; i < stats->count; i++)
    memcpy(buckets + (size_t)i * TALLY_BUCKETS, (const char *)&stats->shares[i].tally + offset,
           TALLY_BUCKETS * sizeof *buckets);
  parameters_add_i64_array(parameters, buckets, NULL, stats->count * TALLY_BUCKETS);
  free(buckets);
}

static void add_names(const struct stats *stats, struct parameters *parameters) {
  const char **names = memory_new((size_t)stats->count * sizeof *names);
  for (int i = 0; i < stats->count; i++)
    names[i] = stats->shares[i].queue->name;
  parameters_add_text_array(parameters, names, stats->count);
  free(names);
}

static void add_used(const struct stats *stats, struct parameters *parameters) {
  int32_t *used = memory_new((size_t)stats->count * sizeof *used);
  for (int i = 0; i < stats->count; i++)
    used[i] = count_used(&stats->shares[i].tally);
  parameters_add_i32_array(parameters, used, stats->count);
  free(used);
}

bool stats_write(struct stats *stats) {
  struct parameters parameters = {0};
  if (stats->count > 0)
    return false;
  collect(stats);
  if (stats->count == 0)
    return false;
  add_names(stats, &parameters);
  add_numbers(stats, offsetof(struct tally, completed), &parameters);
  add_numbers(stats, offsetof(struct tally, retried), &parameters);
  add_numbers(stats, offsetof(struct tally, failed), &parameters);
  add_numbers(stats, offsetof(struct tally, snoozed), &parameters);
  add_numbers(stats, offsetof(struct tally, cancelled), &parameters);
  add_numbers(stats, offsetof(struct tally, wait_us), &parameters);
  add_numbers(stats, offsetof(struct tally, run_us), &parameters);
  add_buckets(stats, offsetof(struct tally, waits), &parameters);
  add_buckets(stats, offsetof(struct tally, runs), &parameters);
  add_used(stats, &parameters);
  stats->act(stats->owner, STATEMENT_ADD_STATS, &parameters);
  parameters_free(&parameters);
  return true;
}

bool stats_result(struct stats *stats, enum statement statement, const PGresult *result) {
  if (statement != STATEMENT_ADD_STATS)
    return false;
  if (result_failed(result)) { /* the numbers stay in the tallies, and are sent the next time */
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    log_line(stats->failure_logged ? LOG_DEBUG : LOG_WARN, "cannot write to pgq_stats: trying again",
             LOG_T("error", primary ? primary : PQresultErrorMessage(result)));
    stats->failure_logged = true;
  } else {
    stats->failure_logged = false;
    for (int i = 0; i < stats->count; i++) {
      tally_subtract(&stats->shares[i].queue->tally, &stats->shares[i].tally);
      tally_add(&stats->shares[i].queue->written, &stats->shares[i].tally);
    }
  }
  stats->count = 0;
  return true;
}
