#ifndef PGQ_CANCEL_H
#define PGQ_CANCEL_H

#include <libpq-fe.h>

/* Asks the server to cancel the statement that runs on the connection. The request is made in a thread of its own,
 * since libpq blocks until the server has taken it. The caller must close the connection at once: the request may
 * arrive late, and would then cancel the next statement. If the request cannot be made, the statement goes on until the
 * server notices that the client is gone. */
void cancel_detached(PGconn *conn);

#endif
