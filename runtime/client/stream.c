#include "stream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include "client_sql.h"
#include "failure.h"

/* Makes the caller's transaction fail: there is never a savepoint of that name. */
static const char fail_sql[] = "ROLLBACK TO SAVEPOINT \"pgq: enqueueing many jobs has failed\"";

/* An array of bytea in binary format: this header, then for each job its length and its data. */
struct array_header {
  uint32_t dimensions, has_nulls, type, count, lower_bound;
};

static int no_memory(struct pgq_error *error, size_t bytes) {
  failure_set(error, "53200", "out of memory: %zu bytes could not be allocated", bytes);
  return -1;
}

static void empty_batch(struct stream *stream) {
  stream->count = 0;
  stream->length = sizeof(struct array_header);
}

int stream_init(struct stream *stream, PGconn *conn, const char *queue, const struct pgq_options *options,
                struct pgq_error *error) {
  const size_t size = STREAM_BATCH_JOBS * sizeof *stream->ids;
  *stream = (struct stream){.conn = conn};
  if (request_init(&stream->request, conn, queue, options, error) != 0)
    return -1;
  stream->began_as = stream->at_rest = PQtransactionStatus(conn);
  stream->ids = malloc(size);
  empty_batch(stream);
  return stream->ids != NULL ? 0 : no_memory(error, size);
}

void stream_free(struct stream *stream) {
  free(stream->ids);
  free(stream->batch);
  request_free(&stream->request);
  stream->ids = NULL;
  stream->batch = NULL;
}

/* ---- Filling */

static int reserve(struct stream *stream, size_t length, struct pgq_error *error) {
  size_t wanted = stream->length + length;
  if (wanted <= stream->capacity)
    return 0;
  size_t capacity = wanted < STREAM_BATCH_BYTES ? STREAM_BATCH_BYTES : wanted;
  unsigned char *bytes = realloc(stream->batch, capacity);
  if (bytes == NULL)
    return no_memory(error, capacity);
  stream->batch = bytes;
  stream->capacity = capacity;
  return 0;
}

/* A job that is larger than a batch is sent as a batch of its own. */
int stream_add(struct stream *stream, const void *data, size_t length, struct pgq_error *error) {
  const size_t size = sizeof(uint32_t) + length;
  if (request_check_data(data, length, error) != 0) {
    failure_prefix(error, "job %" PRId64 ": ", stream->added + 1);
    return -1;
  }
  if (stream->count == STREAM_BATCH_JOBS || (stream->count > 0 && stream->length + size > STREAM_BATCH_BYTES))
    return 0;
  if (reserve(stream, size, error) != 0)
    return -1;
  uint32_t prefix = htonl((uint32_t)length);
  memcpy(stream->batch + stream->length, &prefix, sizeof prefix);
  if (length > 0)
    memcpy(stream->batch + stream->length + sizeof prefix, data, length);
  stream->length += size;
  stream->count++;
  stream->added++;
  return 1;
}

/* ---- The transaction */

bool stream_owns_transaction(const struct stream *stream) {
  return stream->began_as == PQTRANS_IDLE;
}

const char *stream_undo(const struct stream *stream) {
  PGTransactionStatusType now = PQtransactionStatus(stream->conn);
  if (stream_owns_transaction(stream))
    return now == PQTRANS_INTRANS || now == PQTRANS_INERROR ? "ROLLBACK" : NULL;
  return now == PQTRANS_INTRANS ? fail_sql : NULL;
}

void stream_explain_commit(const struct stream *stream, struct pgq_error *error) {
  if (PQstatus(stream->conn) != CONNECTION_OK)
    failure_set(error, "08007", "the connection broke during the COMMIT: all of the jobs are enqueued, or none");
}

int stream_send_moment(struct stream *stream, struct pgq_error *error) {
  stream->at_rest = PQTRANS_INTRANS; /* of the call or of the caller */
  return request_send_moment(&stream->request, stream->conn, error);
}

int stream_take_moment(struct stream *stream, const PGresult *result, struct pgq_error *error) {
  return request_take_moment(&stream->request, stream->conn, result, error);
}

/* ---- Batches */

int stream_send(struct stream *stream, struct pgq_error *error) {
  const struct array_header header = {htonl(1), 0, htonl(OID_BYTEA), htonl((uint32_t)stream->count), htonl(1)};
  struct request *request = &stream->request;
  memcpy(stream->batch, &header, sizeof header);
  request_set_data(request, OID_BYTEA_ARRAY, stream->batch, stream->length);
  if (PQsendQueryParams(stream->conn, SQL_ENQUEUE_MANY, REQUEST_PARAMETERS, request->types, request->values,
                        request->lengths, request->formats, 1) != 1) {
    failure_from_result(error, stream->conn, NULL);
    return -1;
  }
  stream->in_flight = stream->count;
  stream->sent += (int64_t)stream->count;
  empty_batch(stream);
  return 0;
}

/* Adds the numbers of the jobs to an error that concerns their content: a violated constraint, or a trigger's error. */
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

int stream_take(struct stream *stream, const PGresult *result, struct pgq_error *error) {
  size_t count = stream->in_flight;
  stream->in_flight = 0;
  stream->id_count = 0;
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
