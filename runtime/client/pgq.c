#include "pgq.h"

#include <stdlib.h>

#include "failure.h"
#include "request.h"

static const char enqueue_sql[] = "INSERT INTO " REQUEST_COLUMNS " VALUES (" REQUEST_VALUES ", $2) RETURNING id";

/* Reads the id from the answer of the server. */
static int64_t take_id(const PGconn *conn, const PGresult *result, struct pgq_error *error) {
  if (PQresultStatus(result) != PGRES_TUPLES_OK) {
    request_explain(conn, result, error);
    return -1;
  }
  if (PQntuples(result) != 1) {
    failure_set(error, "02000", "the database inserted no row; is there a trigger or rule on pgq_jobs?");
    return -1;
  }
  return strtoll(PQgetvalue(result, 0, 0), NULL, 10);
}

int64_t pgq_enqueue(PGconn *conn, const char *queue, const void *data, size_t length, const struct pgq_options *options,
                    struct pgq_error *error) {
  struct request request;
  int64_t id = -1;
  if (error != NULL)
    *error = (struct pgq_error){.sqlstate = "00000"};
  if (request_init(&request, conn, queue, options, error) != 0)
    return -1;
  if (request_check_data(data, length, error) == 0) {
    request_set_data(&request, OID_BYTEA, data, length);
    PGresult *result = PQexecParams(conn, enqueue_sql, REQUEST_PARAMETERS, request.types, request.values,
                                    request.lengths, request.formats, 0);
    id = take_id(conn, result, error);
    PQclear(result);
  }
  request_free(&request);
  return id;
}
