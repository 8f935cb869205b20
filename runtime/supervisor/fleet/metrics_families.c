#include "metrics_families.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "memory_limit.h"
#include "readiness.h"
#include "slot_activity.h"
#include "stuck.h"
#include "version.h"

/* ── queues ── */

static double due(const struct numbers *numbers) {
  return numbers->has_sample ? (double)numbers->due : NAN;
}

static double oldest(const struct numbers *numbers) {
  return numbers->has_sample ? numbers->oldest_s : NAN;
}

static double in_flight(const struct numbers *numbers) {
  return numbers->in_flight;
}

static double is_paused(const struct numbers *numbers) {
  return numbers->is_paused;
}

static double backs_off(const struct numbers *numbers) {
  return numbers->backs_off;
}

static void add_outcomes(struct buffer *out, const struct family *family, const char *queue,
                         const struct numbers *numbers) {
  const struct tally *tally = &numbers->tally;
  const struct {
    const char *outcome;
    int64_t count;
  } rows[] = {{"completed", tally->completed},
              {"retried", tally->retried},
              {"failed", tally->failed},
              {"snoozed", tally->snoozed},
              {"cancelled", tally->cancelled}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    metrics_sample(out, family->name, family->type,
                   (const struct metric_label[]){{"queue", queue}, {"outcome", rows[i].outcome}}, 2,
                   (double)rows[i].count);
}

static void add_waits(struct buffer *out, const struct family *family, const char *queue,
                      const struct numbers *numbers) {
  metrics_histogram(out, family->name, (struct metric_label){"queue", queue}, numbers->tally.waits,
                    (double)numbers->tally.wait_us / 1e6);
}

static void add_runs(struct buffer *out, const struct family *family, const char *queue,
                     const struct numbers *numbers) {
  metrics_histogram(out, family->name, (struct metric_label){"queue", queue}, numbers->tally.runs,
                    (double)numbers->tally.run_us / 1e6);
}

/* ── the worker ── */

static double executors(const struct worker_view *view) {
  return (double)view->options->executors;
}

static bool is_busy(const struct slot_activity *activity, const struct options *options) {
  return activity->busy_ms > 0 || activity->runs || activity->in_flight >= options->concurrency;
}

static double busy_executors(const struct worker_view *view) {
  int busy = 0;
  struct slot_activity activity;
  for (int i = 0; i < view->slots->count; i++) {
    slot_get_activity(view->slots->items[i], &activity);
    busy += activity.pid != 0 && !slot_is_replaced(view->slots->items[i]) && is_busy(&activity, view->options);
  }
  return busy;
}

static double all_busy_s(const struct worker_view *view) {
  return (double)stuck_all_busy_ms(view->slots) / 1000;
}

static double jobs_begun(const struct worker_view *view) {
  int begun = 0;
  struct slot_activity activity;
  for (int i = 0; i < view->slots->count; i++) {
    slot_get_activity(view->slots->items[i], &activity);
    begun += activity.in_flight;
  }
  return begun;
}

static double leases(const struct worker_view *view) {
  return slot_list_lease_count(view->slots);
}

static double executor_starts(const struct worker_view *view) {
  return (double)view->counts->executor_starts;
}

static double executor_restarts(const struct worker_view *view) {
  return (double)view->counts->executor_restarts;
}

static double claims(const struct worker_view *view) {
  return (double)view->counts->claims;
}

static double claimed_jobs(const struct worker_view *view) {
  return (double)view->counts->claimed_jobs;
}

static double settles(const struct worker_view *view) {
  return (double)view->counts->settles;
}

static double lost_leases(const struct worker_view *view) {
  return (double)view->counts->leases_lost;
}

static double lost_sessions(const struct worker_view *view) {
  return (double)view->mode->lost;
}

static double is_connected(const struct worker_view *view) {
  return *view->control && control_is_up(*view->control);
}

static double is_ready(const struct worker_view *view) {
  return readiness_check(view, NULL);
}

static double has_script_error(const struct worker_view *view) {
  return status_script_error(view->status) != NULL;
}

static double started(const struct worker_view *view) {
  return view->started_s;
}

static bool has_xmin(const struct worker_view *view, struct xmin_sample *sample) {
  *sample = *view->control ? control_xmin(*view->control) : (struct xmin_sample){0};
  return sample->at_ms > 0 && clock_ms() - sample->at_ms <= SAMPLE_VALID_MS;
}

static double xmin_ids(const struct worker_view *view) {
  struct xmin_sample sample;
  return has_xmin(view, &sample) ? (double)sample.ids : NAN;
}

static double xmin_s(const struct worker_view *view) {
  struct xmin_sample sample;
  return has_xmin(view, &sample) ? sample.since_s : NAN;
}

static void add_memory(struct buffer *out, const struct family *family, const struct worker_view *view) {
  int64_t bytes = 0;
  for (int i = 0; i < view->slots->count; i++)
    bytes += slot_memory(view->slots->items[i]);
  metrics_sample(out, family->name, family->type, &(struct metric_label){"process", "supervisor"}, 1,
                 (double)memory_of_process());
  metrics_sample(out, family->name, family->type, &(struct metric_label){"process", "executors"}, 1, (double)bytes);
}

static void add_info(struct buffer *out, const struct family *family, const struct worker_view *view) {
  char host[256] = "", pid[16];
  const char *version = status_script_version(view->status);
  const char *database = *view->control ? control_database(*view->control).name : "";
  gethostname(host, sizeof host - 1);
  snprintf(pid, sizeof pid, "%d", (int)getpid());
  const struct metric_label labels[] = {{"version", PGQ_LUA_VERSION},
                                        {"script", status_script(view->status)},
                                        {"script_version", version ? version : ""},
                                        {"host", host},
                                        {"pid", pid},
                                        {"database", database}};
  metrics_sample(out, family->name, family->type, labels, sizeof labels / sizeof labels[0], 1);
}

static void add_stages(struct buffer *out, const struct family *family, const struct worker_view *view) {
  static const char *const stages[] = {"loading", "connecting", "serving", "reloading", "quiet", "stopping"};
  for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
    metrics_sample(out, family->name, family->type, &(struct metric_label){"stage", stages[i]}, 1,
                   strcmp(stages[i], status_shown_stage(view->status)) == 0);
}

const struct family metric_families[] = {
    {.name = "pgq_worker",
     .type = METRIC_INFO,
     .help = "The worker: its version, its script and the version of that.",
     .lines = add_info},
    {.name = "pgq_worker_start_time_seconds",
     .type = METRIC_GAUGE,
     .unit = "seconds",
     .help = "When the worker was started, in Unix time.",
     .value = started},
    {.name = "pgq_worker_stage",
     .type = METRIC_GAUGE,
     .help = "1 for the stage of the worker's life: loading, connecting, serving, reloading, quiet or stopping.",
     .lines = add_stages},
    {.name = "pgq_worker_ready",
     .type = METRIC_GAUGE,
     .help = "1 if the worker may claim jobs and its script loads, else 0; /readyz has the reasons.",
     .value = is_ready},
    {.name = "pgq_worker_connected",
     .type = METRIC_GAUGE,
     .help = "1 if the worker has its control session with the database, else 0.",
     .value = is_connected},
    {.name = "pgq_worker_script_error",
     .type = METRIC_GAUGE,
     .help = "1 if the script no longer loads, else 0.",
     .value = has_script_error},
    {.name = "pgq_sessions_lost",
     .type = METRIC_COUNTER,
     .help = "Sessions with the database that were lost or given up.",
     .value = lost_sessions},
    {.name = "pgq_jobs",
     .type = METRIC_COUNTER,
     .help =
         "Attempts whose outcome was written, by queue and outcome: completed, retried (failed, and will run again), "
         "failed (for good), snoozed or cancelled (while they ran).",
     .lines_of_queue = add_outcomes},
    {.name = "pgq_job_wait_seconds",
     .type = METRIC_HISTOGRAM,
     .unit = "seconds",
     .help =
         "From the moment at which a job was due to the start of its handler; without attempts that were cancelled.",
     .lines_of_queue = add_waits},
    {.name = "pgq_job_run_seconds",
     .type = METRIC_HISTOGRAM,
     .unit = "seconds",
     .help = "How long the handler of a job ran, with its waits; without attempts that were cancelled.",
     .lines_of_queue = add_runs},
    {.name = "pgq_queue_due_jobs",
     .type = METRIC_GAUGE,
     .help =
         "Jobs of the queue that are due, or were claimed within the last second, by all workers; sampled every 15 s; "
         "the count ends at 10000, which means 10000 or more.",
     .of_queue = due},
    {.name = "pgq_queue_oldest_due_seconds",
     .type = METRIC_GAUGE,
     .unit = "seconds",
     .help = "For how long the oldest job of the queue has been due; 0 if none is due; sampled every 15 s.",
     .of_queue = oldest},
    {.name = "pgq_queue_in_flight_jobs",
     .type = METRIC_GAUGE,
     .help = "Jobs of the queue that this worker has claimed and that have not ended.",
     .of_queue = in_flight},
    {.name = "pgq_queue_paused",
     .type = METRIC_GAUGE,
     .help = "1 if an operator has paused the queue, else 0.",
     .of_queue = is_paused},
    {.name = "pgq_queue_backs_off",
     .type = METRIC_GAUGE,
     .help =
         "1 if the queue backs off in this worker, since a handler asked for it or the database refuses to write its "
         "jobs, else 0.",
     .of_queue = backs_off},
    {.name = "pgq_jobs_running",
     .type = METRIC_GAUGE,
     .help = "Jobs whose handlers have begun and not ended.",
     .value = jobs_begun},
    {.name = "pgq_leases", .type = METRIC_GAUGE, .help = "Jobs that the worker has leased.", .value = leases},
    {.name = "pgq_leases_lost",
     .type = METRIC_COUNTER,
     .help = "Leases that ended while their jobs ran, so that another worker may run them too; not those of jobs that "
             "were cancelled.",
     .value = lost_leases},
    {.name = "pgq_executors", .type = METRIC_GAUGE, .help = "Executors that the worker runs.", .value = executors},
    {.name = "pgq_executors_busy",
     .type = METRIC_GAUGE,
     .help = "Executors whose handlers compute now, or that have as many jobs in flight as they may have.",
     .value = busy_executors},
    {.name = "pgq_executors_all_busy_seconds",
     .type = METRIC_GAUGE,
     .unit = "seconds",
     .help = "For how long every executor has run one handler that has not waited; 0 if one is free.",
     .value = all_busy_s},
    {.name = "pgq_executor_starts",
     .type = METRIC_COUNTER,
     .help = "Executors that were started.",
     .value = executor_starts},
    {.name = "pgq_executor_restarts",
     .type = METRIC_COUNTER,
     .help = "Executors that were started in the place of one that had died or could not load the script.",
     .value = executor_restarts},
    {.name = "pgq_claims",
     .type = METRIC_COUNTER,
     .help = "Claims that were answered, also those that found no job.",
     .value = claims},
    {.name = "pgq_claimed_jobs",
     .type = METRIC_COUNTER,
     .help = "Jobs that claims have brought, also those that went back.",
     .value = claimed_jobs},
    {.name = "pgq_settles",
     .type = METRIC_COUNTER,
     .help = "Transactions that have written outcomes of jobs.",
     .value = settles},
    {.name = "pgq_memory_bytes",
     .type = METRIC_GAUGE,
     .unit = "bytes",
     .help = "Resident memory of the supervisor, and of all executors together.",
     .lines = add_memory},
    {.name = "pgq_xmin_age_transactions",
     .type = METRIC_GAUGE,
     .unit = "transactions",
     .help =
         "Age of the oldest snapshot that keeps vacuum from removing dead rows, in transactions, as far as the role "
         "may see (pg_read_all_stats sees all); sampled every 15 s.",
     .value = xmin_ids},
    {.name = "pgq_oldest_transaction_seconds",
     .type = METRIC_GAUGE,
     .unit = "seconds",
     .help =
         "For how long the oldest transaction that keeps vacuum from removing dead rows has been open, as far as the "
         "role may see; sampled every 15 s.",
     .value = xmin_s},
};

const size_t metric_family_count = sizeof metric_families / sizeof metric_families[0];
