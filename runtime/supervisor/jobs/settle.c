#include "settle.h"

#include <stdlib.h>

#include "clock.h"
#include "log.h"
#include "memory.h"

/* The lease of a transactional job lasts for its time limit and this margin, since it is not extended. */
enum { LEASE_MARGIN_MS = 10000 };

static bool is_retried(const struct job *job) {
  return job->outcome == OUTCOME_FAIL && job->next_wait_ms != NO_NEXT_WAIT;
}

/* Without history, a completed job is deleted by the fastest way. */
static enum statement removal_of(const struct job *job) {
  return job->leased ? STATEMENT_COMPLETE_LEASED : job->tid ? STATEMENT_COMPLETE_BY_TID : STATEMENT_COMPLETE_BY_ID;
}

/* The statement that writes the job's outcome; STATEMENT_COUNT: none. */
static enum statement statement_of(const struct job *job) {
  const struct queue *queue = job->queue;
  bool discarded = job->outcome == OUTCOME_FAIL && !is_retried(job) && queue->discard_failed;
  switch (job->outcome) {
  case OUTCOME_COMPLETE:
    if (queue->keep_attempts)
      return queue->preserve_completed ? STATEMENT_PRESERVE_RECORDED : STATEMENT_REMOVE_RECORDED;
    if (queue->preserve_completed)
      return job->leased ? STATEMENT_PRESERVE_LEASED : job->tid ? STATEMENT_PRESERVE_BY_TID : STATEMENT_PRESERVE_BY_ID;
    return removal_of(job);
  case OUTCOME_FAIL:
    return discarded ? STATEMENT_REMOVE_RECORDED : STATEMENT_FAIL;
  case OUTCOME_UNRUN:
    if (job->interrupted && job->deaths == 0) /* the commit would hide that an earlier claim was interrupted */
      return STATEMENT_COUNT_DEATH;
    return job->leased ? STATEMENT_RELEASE : STATEMENT_COUNT;
  case OUTCOME_SNOOZE:
    return queue->keep_attempts ? STATEMENT_SNOOZE_RECORDED : STATEMENT_SNOOZE;
  case OUTCOME_SETTLED:
    return queue->keep_attempts ? STATEMENT_RECORD_SETTLED : STATEMENT_COUNT;
  case OUTCOME_CANCELLED:
    return STATEMENT_RECORD_CANCELLED;
  case OUTCOME_LEASE:
  case OUTCOME_EXTEND:
    return STATEMENT_LEASE;
  case OUTCOME_DEATH:
    return STATEMENT_COUNT_DEATH;
  default:
    return STATEMENT_COUNT;
  }
}

/* The array parameters of a statement, one element for each job. */
struct columns {
  int count;
  int64_t *ids, *leases, *waits, *times, *since_us;
  bool *no_lease, *no_wait, *not_since; /* the elements of leases, waits and since_us that are null */
  uint64_t *tids;
  int32_t *deaths, *attempts;
  const char **errors, **tracebacks, **queues;
};

static void add_history(const struct history *history, const char *version, struct parameters *parameters) {
  parameters_add_i64(parameters, history->worker_id);
  parameters_add_text(parameters, history->worker);
  parameters_add_text(parameters, *version ? version : NULL);
}

static void add_waits(const struct columns *columns, struct parameters *parameters) {
  parameters_add_i64_array(parameters, columns->waits, columns->no_wait, columns->count);
}

static void add_since(const struct columns *columns, struct parameters *parameters) {
  parameters_add_i64_array(parameters, columns->since_us, columns->not_since, columns->count);
}

/* Adds what the statement needs beside ids and leases. */
static void add_more_columns(const struct columns *columns, enum statement statement, const struct history *history,
                             const char *version, struct parameters *parameters) {
  switch (statement) {
  case STATEMENT_FAIL:
    add_waits(columns, parameters);
    parameters_add_text_array(parameters, columns->errors, columns->count);
    parameters_add_i32_array(parameters, columns->deaths, columns->count);
    add_since(columns, parameters);
    parameters_add_text_array(parameters, columns->tracebacks, columns->count);
    add_history(history, version, parameters);
    break;
  case STATEMENT_REMOVE_RECORDED:
    add_since(columns, parameters);
    parameters_add_text_array(parameters, columns->errors, columns->count);
    parameters_add_text_array(parameters, columns->tracebacks, columns->count);
    add_history(history, version, parameters);
    break;
  case STATEMENT_SNOOZE_RECORDED:
    add_waits(columns, parameters);
    add_since(columns, parameters);
    add_history(history, version, parameters);
    break;
  case STATEMENT_PRESERVE_RECORDED:
    add_since(columns, parameters);
    add_history(history, version, parameters);
    break;
  case STATEMENT_RELEASE:
  case STATEMENT_COUNT_DEATH:
    parameters_add_time_array(parameters, columns->times, columns->count);
    break;
  case STATEMENT_LEASE:
  case STATEMENT_SNOOZE:
    add_waits(columns, parameters);
    break;
  default:
    break;
  }
}

static void add_columns(const struct columns *columns, enum statement statement, const struct history *history,
                        const char *version, struct parameters *parameters) {
  if (statement == STATEMENT_COMPLETE_BY_TID || statement == STATEMENT_PRESERVE_BY_TID) {
    parameters_add_tid_array(parameters, columns->tids, columns->count);
    return;
  }
  parameters_add_i64_array(parameters, columns->ids, NULL, columns->count);
  if (statement == STATEMENT_COMPLETE_BY_ID || statement == STATEMENT_PRESERVE_BY_ID)
    return;
  if (statement == STATEMENT_RECORD_SETTLED || statement == STATEMENT_RECORD_CANCELLED) {
    parameters_add_text_array(parameters, columns->queues, columns->count);
    parameters_add_i32_array(parameters, columns->attempts, columns->count);
    add_since(columns, parameters);
    if (statement == STATEMENT_RECORD_CANCELLED) {
      parameters_add_text_array(parameters, columns->errors, columns->count);
      parameters_add_text_array(parameters, columns->tracebacks, columns->count);
    }
    add_history(history, version, parameters);
    return;
  }
  parameters_add_i64_array(parameters, columns->leases, columns->no_lease, columns->count);
  add_more_columns(columns, statement, history, version, parameters);
}

/* Most batches need a single statement. */
static void mark_needed(const struct batch *batch, bool needed[static STATEMENT_COUNT + 1]) {
  for (int i = 0; i < batch->count; i++)
    needed[statement_of(&batch->jobs[i])] = true;
}

static int64_t lease_of(const struct job *job, int64_t lease_ms) {
  int64_t limit_ms = job->queue->timeout_ms; /* a reload may just have taken it away */
  return job->transactional ? (limit_ms > 0 ? limit_ms : lease_ms) + LEASE_MARGIN_MS : lease_ms;
}

static void collect_job(const struct job *job, enum statement statement, int64_t lease_ms, int64_t now_us,
                        struct columns *columns) {
  int at = columns->count++;
  columns->tids[at] = job->tid;
  if (statement == STATEMENT_COMPLETE_BY_TID || statement == STATEMENT_PRESERVE_BY_TID) /* they need nothing else */
    return;
  columns->ids[at] = job->id;
  columns->leases[at] = job->lease;
  columns->no_lease[at] = !job->leased;
  columns->waits[at] = statement == STATEMENT_LEASE ? lease_of(job, lease_ms) : job->next_wait_ms;
  columns->no_wait[at] = statement != STATEMENT_LEASE && job->next_wait_ms == NO_NEXT_WAIT;
  columns->times[at] = job->run_after_us;
  columns->since_us[at] = now_us - job->began_us;
  columns->not_since[at] = job->began_us == 0;
  columns->attempts[at] = job->attempt;
  columns->deaths[at] = job->died ? job->deaths : 0;
  columns->errors[at] = job->outcome == OUTCOME_CANCELLED ? job->error
                        : job->outcome != OUTCOME_FAIL    ? NULL
                        : job->error                      ? job->error
                                                          : "";
  columns->tracebacks[at] = job->traceback;
  columns->queues[at] = job->queue->name;
}

static void collect(const struct batch *batch, enum statement statement, int64_t lease_ms, struct columns *columns) {
  int64_t now_us = clock_us();
  columns->count = 0;
  for (int i = 0; i < batch->count; i++)
    if (statement_of(&batch->jobs[i]) == statement)
      collect_job(&batch->jobs[i], statement, lease_ms, now_us, columns);
}

/* Makes room for `count` elements in each array. */
static struct columns columns_new(size_t count) {
  int64_t *numbers = memory_new(6 * count * sizeof *numbers);
  int32_t *small = memory_new(2 * count * sizeof *small);
  const char **texts = memory_new(3 * count * sizeof *texts);
  bool *nulls = memory_new(3 * count * sizeof *nulls);
  return (struct columns){.ids = numbers,
                          .leases = numbers + count,
                          .waits = numbers + 2 * count,
                          .times = numbers + 3 * count,
                          .since_us = numbers + 4 * count,
                          .tids = (uint64_t *)numbers + 5 * count,
                          .deaths = small,
                          .attempts = small + count,
                          .errors = texts,
                          .tracebacks = texts + count,
                          .queues = texts + 2 * count,
                          .no_lease = nulls,
                          .no_wait = nulls + count,
                          .not_since = nulls + 2 * count};
}

static void columns_free(struct columns *columns) {
  free(columns->ids);
  free(columns->deaths);
  free(columns->errors);
  free(columns->no_lease);
}

static void make_ascii(char *text) {
  char *to = text;
  for (const char *from = text; from && *from; from++)
    if ((*from & 0xc0) != 0x80) /* the first byte of a character */
      *to++ = (*from & 0x80) ? '?' : *from;
  if (to)
    *to = '\0';
}

void settle_make_ascii(struct batch *batch) {
  for (int i = 0; i < batch->count; i++) {
    make_ascii(batch->jobs[i].error);
    make_ascii(batch->jobs[i].traceback);
  }
}

void settle_send(const struct batch *batch, int64_t lease_ms, const struct history *history, const char *version,
                 void (*send)(void *context, enum statement statement, const struct parameters *parameters),
                 void *context) {
  static const enum statement statements[] = {
      /* The leases come first: a leased job may have ended meanwhile, and is settled under its lease in the same
       * act. */
      STATEMENT_LEASE,           STATEMENT_COMPLETE_BY_TID,  STATEMENT_PRESERVE_BY_TID,
      STATEMENT_COMPLETE_BY_ID,  STATEMENT_PRESERVE_BY_ID,   STATEMENT_COMPLETE_LEASED,
      STATEMENT_PRESERVE_LEASED, STATEMENT_REMOVE_RECORDED,  STATEMENT_PRESERVE_RECORDED,
      STATEMENT_RECORD_SETTLED,  STATEMENT_RECORD_CANCELLED, STATEMENT_FAIL,
      STATEMENT_RELEASE,         STATEMENT_COUNT_DEATH,      STATEMENT_SNOOZE,
      STATEMENT_SNOOZE_RECORDED,
  };
  bool needed[STATEMENT_COUNT + 1] = {false};
  mark_needed(batch, needed);
  struct columns columns = columns_new((size_t)batch->count);
  for (size_t s = 0; s < sizeof statements / sizeof statements[0]; s++) {
    struct parameters parameters = {0};
    if (!needed[statements[s]])
      continue;
    collect(batch, statements[s], lease_ms, &columns);
    add_columns(&columns, statements[s], history, version, &parameters);
    send(context, statements[s], &parameters);
    parameters_free(&parameters);
  }
  columns_free(&columns);
}

void settle_lock_parameters(const struct batch *batch, struct parameters *parameters) {
  size_t most = 2 * (size_t)batch->count;
  int64_t *ids = memory_new(3 * most * sizeof *ids), *leases = ids + most, *times = leases + most;
  int32_t *attempts = memory_new(most * sizeof *attempts);
  bool *no_lease = memory_new(most * sizeof *no_lease);
  int count = 0;
  for (int i = 0; i < batch->count; i++) {
    const struct job *job = &batch->jobs[i];
    /* The answer to the COMMIT that writes the lease may have been lost: then the row shows whether it was written. */
    bool unsure = job->leased && batch_has_unwritten_lease(batch, job->id);
    for (int leased = job->leased && !unsure; leased <= job->leased; leased++) {
      ids[count] = job->id;
      leases[count] = job->lease;
      no_lease[count] = !leased;
      times[count] = job->run_after_us;
      attempts[count++] = job->attempt > INT32_MIN ? job->attempt - 1 : INT32_MIN; /* not compared for leased jobs */
    }
  }
  parameters_add_i64_array(parameters, ids, NULL, count);
  parameters_add_i32_array(parameters, attempts, count);
  parameters_add_i64_array(parameters, leases, no_lease, count);
  parameters_add_time_array(parameters, times, count);
  free(no_lease);
  free(attempts);
  free(ids);
}

static bool locks_for_rescue(enum statement statement) {
  return statement == STATEMENT_LOCK_FOR_RESCUE || statement == STATEMENT_WAIT_FOR_RESCUE;
}

/* Marks the jobs whose ids the statement has returned. Both lists are mostly short, and in the same order if they are
 * long. */
static void mark_returned(struct batch *batch, enum statement statement, const PGresult *result) {
  int job = 0;
  for (int row = 0; row < PQntuples(result); row++) {
    int64_t id = result_i64(result, row, 0);
    for (int tried = 0; tried < batch->count; tried++) {
      struct job *candidate = &batch->jobs[job];
      job = (job + 1) % batch->count;
      if (candidate->id != id || (!locks_for_rescue(statement) && statement_of(candidate) != statement))
        continue;
      candidate->locked_elsewhere = locks_for_rescue(statement) && *PQgetvalue(result, row, 1) == 0;
      candidate->written = !candidate->locked_elsewhere;
      break;
    }
  }
}

bool settle_take(struct batch *batch, enum statement statement, const PGresult *result) {
  if (PQnfields(result) > 0) {
    mark_returned(batch, statement, result);
    return !locks_for_rescue(statement);
  }
  int jobs = 0;
  for (int i = 0; i < batch->count; i++)
    jobs += statement_of(&batch->jobs[i]) == statement;
  bool written = strtol(PQcmdTuples((PGresult *)result), NULL, 10) >= jobs;
  for (int i = 0; i < batch->count; i++)
    if (statement_of(&batch->jobs[i]) == statement)
      batch->jobs[i].written = written;
  return jobs > 0;
}

bool settle_reschedules(enum statement statement) {
  return statement == STATEMENT_FAIL || statement == STATEMENT_RELEASE || statement == STATEMENT_COUNT_DEATH ||
         statement == STATEMENT_SNOOZE || statement == STATEMENT_SNOOZE_RECORDED;
}

bool settle_is_ignored(const struct job *job) {
  return !job->written && job->outcome != OUTCOME_EXTEND && job->outcome != OUTCOME_SETTLED &&
         job->outcome != OUTCOME_CANCELLED && statement_of(job) != STATEMENT_COUNT;
}

const char *settle_event(const struct job *job) {
  enum statement statement = statement_of(job);
  return statement == STATEMENT_COMPLETE_BY_TID || statement == STATEMENT_COMPLETE_BY_ID ||
                 statement == STATEMENT_COMPLETE_LEASED || statement == STATEMENT_REMOVE_RECORDED
             ? "DELETE"
             : "UPDATE";
}

static void log_job(const struct job *job) {
  bool retried = is_retried(job);
  if (job->outcome == OUTCOME_SNOOZE)
    log_debug("job snoozed", LOG_T("queue", job->queue->name), LOG_I("job", job->id),
              LOG_US("run_in", job->next_wait_ms * 1000), LOG_US("duration", (int64_t)job->duration_us));
  else if (job->outcome == OUTCOME_COMPLETE || job->outcome == OUTCOME_SETTLED) /* its handler has written it */
    log_debug("job completed", LOG_T("queue", job->queue->name), LOG_I("job", job->id), LOG_I("attempt", job->attempt),
              LOG_US("duration", (int64_t)job->duration_us));
  else if (job->outcome == OUTCOME_FAIL)
    log_line(retried ? LOG_WARN : LOG_ERROR,
             retried                      ? "job failed and will be retried"
             : job->queue->discard_failed ? "job failed and is discarded"
                                          : "job failed for good",
             LOG_T("queue", job->queue->name), LOG_I("job", job->id), LOG_I("attempt", job->attempt),
             LOG_US("duration", (int64_t)job->duration_us), LOG_T("error", job->error),
             retried ? LOG_US("retry_in", job->next_wait_ms * 1000) : (struct log_field){0},
             LOG_T("traceback", job->traceback));
}

void settle_log(const struct batch *batch) {
  for (int i = 0; i < batch->count; i++) {
    const struct job *job = &batch->jobs[i];
    bool ended = job->outcome == OUTCOME_COMPLETE || job->outcome == OUTCOME_FAIL || job->outcome == OUTCOME_SNOOZE ||
                 job->outcome == OUTCOME_SETTLED;
    if (ended && (job->outcome == OUTCOME_FAIL || log_wants(LOG_DEBUG)))
      log_job(job);
  }
}
