#ifndef PGQ_FAILURE_H
#define PGQ_FAILURE_H

/* Filling in a struct pgq_error. Shared by libpgq and the Lua module; no part of the public interface. */

#include "pgq.h"

/* Sets the SQLSTATE and a message as printf makes it, cleaned to one line of UTF-8. `error` may be NULL. */
void failure_set(struct pgq_error *error, const char *sqlstate, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts a text as printf makes it in front of the message. `error` may be NULL. */
void failure_prefix(struct pgq_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says why a command on `conn` had no success: `result` is what libpq returned for it, NULL included. A connection that
 * is broken by now gives 08006, whatever the server's last words were. `error` may be NULL; `result` stays the
 * caller's. */
void failure_from_result(struct pgq_error *error, const PGconn *conn, const PGresult *result);

/* Sets an error and returns -1 when `conn` cannot take a command now: it is NULL, broken, in pipeline mode, busy, or in
 * a failed transaction. Otherwise returns 0 and leaves `*error` as it is. */
int failure_check_connection(struct pgq_error *error, const PGconn *conn) __attribute__((warn_unused_result));

#endif
