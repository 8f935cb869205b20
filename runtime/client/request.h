#ifndef PGQ_REQUEST_H
#define PGQ_REQUEST_H

/* What the ways of enqueueing share: the checks of a call's arguments, and the parameters of its INSERT. No part of the
 * public interface. */

#include "pgq.h"

enum { REQUEST_PARAMETERS = 5 };
enum { OID_BYTEA = 17, OID_INT8 = 20, OID_BYTEA_ARRAY = 1001, OID_TEXT_ARRAY = 1009, OID_TIMESTAMPTZ = 1184 };

/* The parameters of one call, as PQexecParams() takes them; for reading. */
struct request {
  Oid types[REQUEST_PARAMETERS];
  const char *values[REQUEST_PARAMETERS];
  int lengths[REQUEST_PARAMETERS];
  int formats[REQUEST_PARAMETERS];
  char delay[24], moment[8]; /* what values may point to, hence a request is not to be copied */
  char *waits;
};

/* Checks connection, queue and options (NULL for the defaults), and sets all parameters but the data. Returns 0, or -1
 * with an error; then there is nothing to free. The texts stay the caller's and are read until request_free(). */
int request_init(struct request *request, const PGconn *conn, const char *queue, const struct pgq_options *options,
                 struct pgq_error *error) __attribute__((warn_unused_result));

/* Frees what the request holds, not the request. */
void request_free(struct request *request);

/* Returns 0 when a job may have these bytes as its data, else -1 with an error. */
int request_check_data(const void *data, size_t length, struct pgq_error *error) __attribute__((warn_unused_result));

/* Sets the data: `length` bytes, in the binary form of `type`. They stay the caller's. */
void request_set_data(struct request *request, Oid type, const void *data, size_t length);

/* Asks for the moment that a delay leads to from now on the database's clock, so that all statements of the call have
 * the same. Returns 1; or 0 when there is no delay, and nothing was sent; or -1 with an error. */
int request_send_moment(const struct request *request, PGconn *conn, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* Takes the answer, and puts the moment in the place of the delay. Returns 0, or -1 with an error. */
int request_take_moment(struct request *request, const PGconn *conn, const PGresult *result, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* The INSERT of one job, whose result request_take_id() reads: returns the id, or -1 with an error. The result is one
 * in text, and stays the caller's. */
extern const char request_insert_sql[];
int64_t request_take_id(const PGconn *conn, const PGresult *result, struct pgq_error *error)
    __attribute__((warn_unused_result));

/* Says why an INSERT had no success, as failure_from_result() does, and adds what to do about errors that are about pgq
 * rather than about the jobs. */
void request_explain(const PGconn *conn, const PGresult *result, struct pgq_error *error);

#endif
