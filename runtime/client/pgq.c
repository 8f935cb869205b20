#include "pgq.h"

#include "failure.h"
#include "request.h"

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
    PGresult *result = PQexecParams(conn, request_insert_sql, REQUEST_PARAMETERS, request.types, request.values,
                                    request.lengths, request.formats, 0);
    id = request_take_id(conn, result, error);
    PQclear(result);
  }
  request_free(&request);
  return id;
}
