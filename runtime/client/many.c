/* Enqueueing many jobs: a stream of jobs is cut into batches, each batch is one INSERT. The server always has one batch
 * while the next is being filled and the ids of the one before are handed out, so that the callbacks cost no time of
 * their own. (Libpq's pipeline mode would only save a network round trip a batch, which is small beside the INSERT.) */

#include "pgq.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include "failure.h"
#include "request.h"

/* Larger batches are no faster; smaller ones are slower where a network lies between. */
enum { BATCH_JOBS = 8192, BATCH_BYTES = 1 << 20 };

/* The order of the jobs is that of the ids: the ids are given out above the ORDER BY, which costs no sort. */
static const char insert_sql[] = "INSERT INTO " REQUEST_COLUMNS " SELECT " REQUEST_VALUES ", job.data"
                                 " FROM pg_catalog.unnest($2) WITH ORDINALITY AS job (data, number)"
                                 " ORDER BY job.number RETURNING id";

/* Makes the caller's transaction fail; a savepoint of that name is never set. */
static const char fail_sql[] = "ROLLBACK TO SAVEPOINT \"pgq: enqueueing many jobs has failed\"";

/* An array of bytea in its binary form: this header, then for each job its length and its data. */
struct array_header {
  uint32_t dimensions, has_nulls, type, count, lower_bound;
};

struct stream {
  PGconn *conn;
  struct request request;
  pgq_next_function *next;
  pgq_ids_function *take;
  void *context;

  struct pgq_job job; /* given by `next`, but in no batch yet, if has_job */
  bool has_job, ended;
  int64_t taken; /* jobs that `next` has given */

  unsigned char *batch; /* the array that is being filled */
  size_t length, capacity, count;
  size_t in_flight; /* jobs of the batch that the server has and has not answered; 0: none */
  int64_t sent;     /* jobs in all batches sent so far */

  int64_t *ids; /* of the last batch answered, not handed out yet: id_count of them */
  size_t id_count;

  PGTransactionStatusType began_as, at_rest; /* when the call began, and now between two statements */
};

static int no_memory(struct pgq_error *error, size_t bytes) {
  failure_set(error, "53200", "out of memory (%zu bytes wanted)", bytes);
  return -1;
}

/* ---- Callbacks */

/* Whether the callbacks have kept their hands off the connection, as far as that can be seen. A broken one is for the
 * next statement to find. */
static int check_untouched(const struct stream *stream, struct pgq_error *error) {
  PGTransactionStatusType expected = stream->in_flight > 0 ? PQTRANS_ACTIVE : stream->at_rest;
  if (PQstatus(stream->conn) != CONNECTION_OK || PQtransactionStatus(stream->conn) == expected)
    return 0;
  failure_set(error, "55000", "a callback has used the connection, which was busy enqueueing many jobs");
  return -1;
}

/* Makes sure that there is a job to look at, unless there are none left. */
static int ask_for_job(struct stream *stream, struct pgq_error *error) {
  if (stream->has_job || stream->ended)
    return 0;
  int answer = stream->next(stream->context, &stream->job);
  if (answer < 0) {
    failure_set(error, "38000", "the source of the jobs ended the call (%d) after %" PRId64 " of them", answer,
                stream->taken);
    return -1;
  }
  stream->has_job = answer > 0;
  stream->ended = answer == 0;
  stream->taken += stream->has_job;
  if (stream->has_job && request_check_data(stream->job.data, stream->job.length, error) != 0) {
    failure_prefix(error, "job %" PRId64 ": ", stream->taken);
    return -1;
  }
  return 0;
}

/* Hands out the ids that have come. */
static int deliver(struct stream *stream, struct pgq_error *error) {
  size_t count = stream->id_count;
  stream->id_count = 0;
  if (count == 0 || stream->take == NULL)
    return 0;
  int answer = stream->take(stream->context, stream->ids, count);
  if (answer != 0) {
    failure_set(error, "38000", "the taker of the ids ended the call (%d)", answer);
    return -1;
  }
  return check_untouched(stream, error);
}

/* ---- Batches */

static int make_room(struct stream *stream, size_t length, struct pgq_error *error) {
  size_t wanted = stream->length + length;
  if (wanted <= stream->capacity)
    return 0;
  size_t capacity = wanted < BATCH_BYTES ? BATCH_BYTES : wanted;
  unsigned char *bytes = realloc(stream->batch, capacity);
  if (bytes == NULL)
    return no_memory(error, capacity);
  stream->batch = bytes;
  stream->capacity = capacity;
  return 0;
}

/* Fills the batch, which is empty, with what there is and what fits; with one job at least, however large. */
static int fill(struct stream *stream, struct pgq_error *error) {
  stream->count = 0;
  stream->length = sizeof(struct array_header);
  while (stream->count < BATCH_JOBS) {
    if (ask_for_job(stream, error) != 0)
      return -1;
    size_t length = stream->job.length, size = sizeof(uint32_t) + length;
    if (!stream->has_job || (stream->count > 0 && stream->length + size > BATCH_BYTES))
      break;
    if (make_room(stream, size, error) != 0)
      return -1;
    uint32_t prefix = htonl((uint32_t)length);
    memcpy(stream->batch + stream->length, &prefix, sizeof prefix);
    if (length > 0)
      memcpy(stream->batch + stream->length + sizeof prefix, stream->job.data, length);
    stream->length += size;
    stream->count++;
    stream->has_job = false;
  }
  return check_untouched(stream, error);
}

/* Sends the batch. Libpq keeps a copy of what the server does not take at once, so the batch can be filled again. */
static int send_batch(struct stream *stream, struct pgq_error *error) {
  const struct array_header header = {htonl(1), 0, htonl(OID_BYTEA), htonl((uint32_t)stream->count), htonl(1)};
  struct request *request = &stream->request;
  memcpy(stream->batch, &header, sizeof header);
  request_set_data(request, OID_BYTEA_ARRAY, stream->batch, stream->length);
  if (PQsendQueryParams(stream->conn, insert_sql, REQUEST_PARAMETERS, request->types, request->values, request->lengths,
                        request->formats, 1) != 1) {
    failure_from_result(error, stream->conn, NULL);
    return -1;
  }
  stream->in_flight = stream->count;
  stream->sent += (int64_t)stream->count;
  return 0;
}

/* Says which jobs a refusal is about, where it is about jobs: a violated constraint, or a trigger's own error. */
static void name_jobs(const struct stream *stream, size_t count, struct pgq_error *error) {
  if (error == NULL || (strncmp(error->sqlstate, "23", 2) != 0 && strncmp(error->sqlstate, "P0", 2) != 0))
    return;
  if (count == 1)
    failure_prefix(error, "job %" PRId64 ": ", stream->sent);
  else
    failure_prefix(error, "jobs %" PRId64 " to %" PRId64 ": ", stream->sent - (int64_t)count + 1, stream->sent);
}

static int64_t read_int8(const char *bytes) {
  uint32_t halves[2];
  memcpy(halves, bytes, sizeof halves);
  return (int64_t)((uint64_t)ntohl(halves[0]) << 32 | ntohl(halves[1]));
}

static int read_ids(struct stream *stream, const PGresult *result, size_t count, struct pgq_error *error) {
  if (PQresultStatus(result) != PGRES_TUPLES_OK) {
    request_explain(stream->conn, result, error);
    name_jobs(stream, count, error);
    return -1;
  }
  if ((size_t)PQntuples(result) != count) {
    failure_set(error, "02000", "the database inserted %d of %zu jobs; is there a trigger or rule on pgq_jobs?",
                PQntuples(result), count);
    return -1;
  }
  for (size_t i = 0; i < count; i++)
    stream->ids[i] = read_int8(PQgetvalue(result, (int)i, 0));
  stream->id_count = count;
  return 0;
}

/* Waits until the server has answered, and returns its first word: of a connection that breaks, that is the reason. */
static PGresult *end_statement(PGconn *conn) {
  PGresult *first = PQgetResult(conn), *more;
  while ((more = PQgetResult(conn)) != NULL)
    PQclear(more);
  return first;
}

static int receive(struct stream *stream, struct pgq_error *error) {
  size_t count = stream->in_flight;
  PGresult *result = end_statement(stream->conn);
  stream->in_flight = 0;
  int status = read_ids(stream, result, count, error);
  PQclear(result);
  return status;
}

/* ---- The transaction */

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
  if (stream->began_as == PQTRANS_IDLE && run(stream, "BEGIN", error) != 0)
    return -1;
  stream->at_rest = PQTRANS_INTRANS;
  return 0;
}

static int commit(struct stream *stream, struct pgq_error *error) {
  if (stream->began_as != PQTRANS_IDLE)
    return 0;
  if (run(stream, "COMMIT", error) == 0)
    return 0;
  if (PQstatus(stream->conn) != CONNECTION_OK)
    failure_set(error, "08007", "the connection broke during the COMMIT: all of the jobs are enqueued, or none");
  return -1;
}

/* Undoes the call: rolls its own transaction back, or makes the caller's fail. */
static void abandon(struct stream *stream) {
  PGconn *conn = stream->conn;
  PQclear(end_statement(conn));
  if (stream->began_as == PQTRANS_IDLE && PQtransactionStatus(conn) != PQTRANS_IDLE)
    (void)run(stream, "ROLLBACK", NULL);
  else if (stream->began_as == PQTRANS_INTRANS && PQtransactionStatus(conn) == PQTRANS_INTRANS)
    (void)run(stream, fail_sql, NULL);
}

/* ---- The call */

static int enqueue_all(struct stream *stream, struct pgq_error *error) {
  if (fill(stream, error) != 0)
    return -1;
  if (stream->count == 0)
    return 0;
  if (begin(stream, error) != 0 || request_fix_moment(&stream->request, stream->conn, error) != 0)
    return -1;
  while (stream->count > 0)
    if (send_batch(stream, error) != 0 || deliver(stream, error) != 0 || fill(stream, error) != 0 ||
        receive(stream, error) != 0)
      return -1;
  return deliver(stream, error) != 0 ? -1 : commit(stream, error);
}

int64_t pgq_enqueue_stream(PGconn *conn, const char *queue, pgq_next_function *next, pgq_ids_function *take,
                           void *context, const struct pgq_options *options, struct pgq_error *error) {
  struct stream stream = {.conn = conn, .next = next, .take = take, .context = context};
  if (error != NULL)
    *error = (struct pgq_error){.sqlstate = "00000"};
  if (request_init(&stream.request, conn, queue, options, error) != 0)
    return -1;
  const size_t size = BATCH_JOBS * sizeof *stream.ids;
  const int nonblocking = PQisnonblocking(conn);
  stream.began_as = stream.at_rest = PQtransactionStatus(conn);
  stream.ids = malloc(size);
  /* So that a batch is on its way before the next is filled. Neither side waits for the other for ever: libpq reads
   * when it cannot write. */
  (void)PQsetnonblocking(conn, 0);
  int status = stream.ids != NULL ? enqueue_all(&stream, error) : no_memory(error, size);
  if (status != 0)
    abandon(&stream);
  (void)PQsetnonblocking(conn, nonblocking);
  free(stream.ids);
  free(stream.batch);
  request_free(&stream.request);
  return status == 0 ? stream.sent : -1;
}

/* ---- The call with an array, which is a stream */

struct array {
  const struct pgq_job *jobs;
  size_t count, given, taken;
  int64_t *ids; /* NULL: not wanted */
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

/* What can be wrong with the jobs is found before anything is sent. */
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
