#ifndef PGQ_HTTP_SERVER_H
#define PGQ_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "address.h"
#include "buffer.h"

/*
 * An HTTP server on the loop of the caller, for a few clients that are mostly trusted: GET and HEAD only. It knows
 * nothing about what it serves.
 *
 * No client can delay the loop: nothing blocks, long answers are made piece by piece, and if requests take much of the
 * loop's time, the server rests in between. There are at most 64 connections; more clients wait. A connection on which
 * no request ends for ten seconds is closed.
 */
struct http_server;

struct http_request {
  const char *path;   /* decoded, without the query */
  const char *accept; /* the header; NULL: none */
};

/*
 * What a handler answers. It comes zeroed but for the status 200, and the handler sets the type and adds to the body.
 * If there is more than fits into memory at once, the handler sets `more`: it is called, whenever the client has taken
 * what was made before, to add some kilobytes to the empty buffer, and returns false when these are the last.
 * `release`, if set, is called once, also when the client goes away.
 */
struct http_response {
  int status;
  const char *type; /* the content type: a static text */
  struct buffer body;
  bool (*more)(void *context, struct buffer *body);
  void (*release)(void *context);
  void *context; /* of these two */
};

/* A page; `path` is compared as a whole. `purpose` is a phrase for the list of pages that an unknown path shows. */
struct http_route {
  const char *path;
  const char *purpose;
  void (*handle)(void *owner, const struct http_request *request, struct http_response *response);
};

/* Why a server could not be started. */
struct http_problem {
  char message[256];
};

/*
 * http_server_new(loop, address, routes, count, owner, problem): listens, and serves from the loop. The routes must
 * outlive the server; `owner` goes to their handlers. Returns NULL and a problem, which says what to do, if the address
 * cannot be listened on.
 */
struct http_server *http_server_new(uv_loop_t *loop, const struct address *address, const struct http_route *routes,
                                    size_t count, void *owner, struct http_problem *problem);

/* http_server_address(server): where it listens: with the port that was taken if the caller asked for port 0. */
struct address http_server_address(const struct http_server *server);

/* http_server_free(server): closes all connections, calls release() of answers that are under way, and frees the server
 * in later turns of the loop. NULL is allowed. */
void http_server_free(struct http_server *server);

#endif
