#ifndef PGQ_CANCEL_H
#define PGQ_CANCEL_H

#include <libpq-fe.h>

/* Asks the server to end the statement that runs on the connection, from a thread of its own, since libpq waits until
 * the server has taken note. The connection is to be closed right after: the request may come late, and would meet the
 * next statement. When it cannot be made, the statement runs on until the server notices that nobody listens. */
void cancel_detached(PGconn *conn);

#endif
