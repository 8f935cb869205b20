#ifndef PGQ_FAILURE_H
#define PGQ_FAILURE_H

/* Functions that fill in a struct pgq_error. Shared by libpgq and the Lua module; not part of the public interface. In
 * all of them `error` may be NULL: then nothing is set. */

#include "pgq.h"

/* failure_set(error, sqlstate, format, …): sets the SQLSTATE, and a message as printf() would, as one line of UTF-8. */
void failure_set(struct pgq_error *error, const char *sqlstate, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* failure_prefix(error, format, …): puts a text in front of the message. */
void failure_prefix(struct pgq_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* failure_from_result(error, conn, result): sets why a command on `conn` failed. `result` is what libpq returned for
 * it, which may be NULL; the caller still owns it. If the connection is broken by now, the SQLSTATE is 08006, whatever
 * the server has sent. */
void failure_from_result(struct pgq_error *error, const PGconn *conn, const PGresult *result);

/* failure_check_connection(error, conn): returns -1 and sets an error if `conn` cannot take a command now: it is NULL,
 * broken, in pipeline mode, busy, or in a failed transaction. Otherwise returns 0 and leaves *error unchanged. */
int failure_check_connection(struct pgq_error *error, const PGconn *conn) __attribute__((warn_unused_result));

#endif
