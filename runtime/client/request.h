#ifndef PGQ_REQUEST_H
#define PGQ_REQUEST_H

/* The part that all enqueueing functions share: checks of the arguments, and the parameters of the INSERT. Not part of
 * the public interface. */

#include "pgq.h"

enum { REQUEST_PARAMETERS = 5 };
enum { OID_BYTEA = 17, OID_INT8 = 20, OID_BYTEA_ARRAY = 1001, OID_TEXT_ARRAY = 1009, OID_TIMESTAMPTZ = 1184 };

/* The parameters of one call, as PQexecParams() takes them. Other files only read them. */
struct request {
  Oid types[REQUEST_PARAMETERS];
  const char *values[REQUEST_PARAMETERS];
  int lengths[REQUEST_PARAMETERS];
  int formats[REQUEST_PARAMETERS];
  char delay[24], moment[8]; /* `values` may point to these, so a request must not be copied */
  char *waits;
};

/* Checks connection, queue and options (NULL: the defaults), and sets all parameters but the data. Returns 0, or -1 and
 * an error; then nothing has to be freed. The caller's texts must stay valid until request_free(). */
int request_init(struct request *request, const PGconn *conn, const char *queue, const struct pgq_options *options,
                 struct pgq_error *error) __attribute__((warn_unused_result));

/* Frees the content of the request, not the request itself. */
void request_free(struct request *request);

/* Returns 0 if a job may have these bytes as its data, else -1 and an error. */
int request_check_data(const void *data, size_t length, struct pgq_error *error) __attribute__((warn_unused_result));

/* Sets the data: `length` bytes in the binary format of `type`. They are not copied. */
void request_set_data(struct request *request, Oid type, const void *data, size_t length);

/* Asks the database for the time at which the delay ends, so that all statements of the call use the same time. Returns
 * 1; or 0 if there is no delay and nothing was sent; or -1 and an error. */
int request_send_moment(const struct request *request, PGconn *conn, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* Reads the answer, and replaces the delay with that time. Returns 0, or -1 and an error. */
int request_take_moment(struct request *request, const PGconn *conn, const PGresult *result, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* The INSERT of one job. request_take_id() reads its result, which is in text format and stays the caller's, and
 * returns the id, or -1 with an error. */
extern const char request_insert_sql[];
int64_t request_take_id(const PGconn *conn, const PGresult *result, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* Sets why an INSERT failed, as failure_from_result() does. If the table is missing or the queue name is too long, the
 * message says so and what to do. */
void request_explain(const PGconn *conn, const PGresult *result, struct pgq_error *error);

#endif
