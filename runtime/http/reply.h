#ifndef PGQ_HTTP_REPLY_H
#define PGQ_HTTP_REPLY_H

#include <microhttpd.h>

#include "server.h"

/* reply_send(connection, response): sends the response, whose body and context it takes over. Returns what a handler of
 * the library returns. */
enum MHD_Result reply_send(struct MHD_Connection *connection, struct http_response *response);

#endif
