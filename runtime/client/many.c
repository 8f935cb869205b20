/* Enqueues many jobs with callbacks, blocking. While the server inserts one batch, the callbacks fill the next one and
 * receive the ids of the one before. (Libpq's pipeline mode would only save a network round trip for each batch, which
 * is short beside the INSERT.) */

#include "pgq.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "stream.h"

/* The state of one call. */
struct call {
  struct stream stream;
  pgq_next_function *next;
  pgq_ids_function *take;
  void *context;

  struct pgq_job job; /* if has_job: provided by `next`, but not in a batch yet */
  bool has_job, ended;
};

/* ---- Callbacks */

/* Fails if the connection's state shows that a callback has used it. If the connection is broken, the next statement
 * fails. */
static int check_untouched(const struct stream *stream, struct pgq_error *error) {
  PGTransactionStatusType expected = stream->in_flight > 0 ? PQTRANS_ACTIVE : stream->at_rest;
  if (PQstatus(stream->conn) != CONNECTION_OK || PQtransactionStatus(stream->conn) == expected)
    return 0;
  failure_set(error, "55000", "a callback has used the connection while it was enqueueing many jobs");
  return -1;
}

/* Sets call->job to the next job, unless it is set or no job is left. */
static int ask_for_job(struct call *call, struct pgq_error *error) {
  if (call->has_job || call->ended)
    return 0;
  int answer = call->next(call->context, &call->job);
  if (answer < 0) {
    failure_set(error, "38000", "the function that provides the jobs ended the call (%d) after %" PRId64 " jobs",
                answer, call->stream.added);
    return -1;
  }
  call->has_job = answer > 0;
  call->ended = answer == 0;
  return 0;
}

/* Fills the empty batch with the next jobs, until it is full or no job is left. */
static int fill(struct call *call, struct pgq_error *error) {
  int added = 1;
  while (added == 1) {
    if (ask_for_job(call, error) != 0)
      return -1;
    if (!call->has_job)
      break;
    added = stream_add(&call->stream, call->job.data, call->job.length, error);
    call->has_job = added == 0;
  }
  return added < 0 ? -1 : check_untouched(&call->stream, error);
}

/* Passes the received ids to the callback. */
static int deliver(struct call *call, struct pgq_error *error) {
  struct stream *stream = &call->stream;
  size_t count = stream->id_count;
  stream->id_count = 0;
  if (count == 0 || call->take == NULL)
    return 0;
  int answer = call->take(call->context, stream->ids, count);
  if (answer != 0) {
    failure_set(error, "38000", "the function that takes the ids ended the call (%d)", answer);
    return -1;
  }
  return check_untouched(stream, error);
}

/* ---- Statements */

/* Waits for the end of the statement and returns its first result, which has the reason if the connection broke. */
static PGresult *end_statement(PGconn *conn) {
  PGresult *first = PQgetResult(conn), *more;
  while ((more = PQgetResult(conn)) != NULL)
    PQclear(more);
  return first;
}

/* Runs a statement without parameters and rows, such as BEGIN. */
static int run(const struct stream *stream, const char *sql, struct pgq_error *error) {
  PGresult *result = PQexec(stream->conn, sql);
  bool done = PQresultStatus(result) == PGRES_COMMAND_OK;
  if (!done)
    failure_from_result(error, stream->conn, result);
  PQclear(result);
  return done ? 0 : -1;
}

static int begin(struct stream *stream, struct pgq_error *error) {
  if (stream_owns_transaction(stream) && run(stream, "BEGIN", error) != 0)
    return -1;
  int sent = stream_send_moment(stream, error);
  if (sent != 1)
    return sent;
  PGresult *result = end_statement(stream->conn);
  int status = stream_take_moment(stream, result, error);
  PQclear(result);
  return status;
}

static int receive(struct stream *stream, struct pgq_error *error) {
  PGresult *result = end_statement(stream->conn);
  int status = stream_take(stream, result, error);
  PQclear(result);
  return status;
}

static int commit(const struct stream *stream, struct pgq_error *error) {
  if (!stream_owns_transaction(stream) || run(stream, "COMMIT", error) == 0)
    return 0;
  stream_explain_commit(stream, error);
  return -1;
}

static void abandon(const struct stream *stream) {
  PQclear(end_statement(stream->conn));
  const char *sql = stream_undo(stream);
  if (sql != NULL)
    (void)run(stream, sql, NULL);
}

/* ---- The call */

static int enqueue_all(struct call *call, struct pgq_error *error) {
  struct stream *stream = &call->stream;
  if (fill(call, error) != 0)
    return -1;
  if (stream->count == 0)
    return 0;
  if (begin(stream, error) != 0)
    return -1;
  while (stream->count > 0)
    if (stream_send(stream, error) != 0 || deliver(call, error) != 0 || fill(call, error) != 0 ||
        receive(stream, error) != 0)
      return -1;
  return deliver(call, error) != 0 ? -1 : commit(stream, error);
}

int64_t pgq_enqueue_stream(PGconn *conn, const char *queue, pgq_next_function *next, pgq_ids_function *take,
                           void *context, const struct pgq_options *options, struct pgq_error *error) {
  struct call call = {.next = next, .take = take, .context = context};
  if (error != NULL)
    *error = (struct pgq_error){.sqlstate = "00000"};
  int status = stream_init(&call.stream, conn, queue, options, error);
  if (status == 0) {
    const int nonblocking = PQisnonblocking(conn);
    /* In blocking mode a batch is sent completely before the next one is filled. This cannot deadlock: libpq reads
     * while it cannot write. */
    (void)PQsetnonblocking(conn, 0);
    status = enqueue_all(&call, error);
    if (status != 0)
      abandon(&call.stream);
    (void)PQsetnonblocking(conn, nonblocking);
  }
  stream_free(&call.stream);
  return status == 0 ? call.stream.sent : -1;
}

/* ---- The call with an array: a stream whose callbacks use the array */

struct array {
  const struct pgq_job *jobs;
  size_t count, given, taken;
  int64_t *ids; /* may be NULL */
};

static int next_of_array(void *context, struct pgq_job *job) {
  struct array *array = context;
  if (array->given == array->count)
    return 0;
  *job = array->jobs[array->given++];
  return 1;
}

static int take_into_array(void *context, const int64_t *ids, size_t count) {
  struct array *array = context;
  memcpy(array->ids + array->taken, ids, count * sizeof *ids);
  array->taken += count;
  return 0;
}

/* Checks all jobs, so that nothing is sent if one is invalid. */
static int check_jobs(const struct pgq_job *jobs, size_t count, struct pgq_error *error) {
  if (jobs == NULL && count > 0) {
    failure_set(error, "22023", "the jobs are NULL, but their count is %zu", count);
    return -1;
  }
  for (size_t i = 0; i < count; i++)
    if (request_check_data(jobs[i].data, jobs[i].length, error) != 0) {
      failure_prefix(error, "job %zu: ", i + 1);
      return -1;
    }
  return 0;
}

int pgq_enqueue_many(PGconn *conn, const char *queue, const struct pgq_job *jobs, size_t count, int64_t *ids,
                     const struct pgq_options *options, struct pgq_error *error) {
  struct array array = {.jobs = jobs, .count = count, .ids = ids};
  if (check_jobs(jobs, count, error) != 0)
    return -1;
  int64_t enqueued =
      pgq_enqueue_stream(conn, queue, next_of_array, ids != NULL ? take_into_array : NULL, &array, options, error);
  return enqueued >= 0 ? 0 : -1;
}
