#ifndef PGQ_HTTP_SOCKET_H
#define PGQ_HTTP_SOCKET_H

#include "server.h"

/* http_listen(address, taken, problem): a socket that listens there, closed on exec; `taken` gets the address with its
 * port. Returns -1 and a problem if that is impossible. */
int http_listen(const struct address *address, struct address *taken, struct http_problem *problem);

#endif
