#include "reply.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* How much of a long answer is made at once. */
enum { PIECE = 16 << 10 };

/* An answer that is made piece by piece. */
struct stream {
  struct http_response response;
  bool complete; /* more() has made the last piece */
};

static ssize_t on_read(void *context, uint64_t position, char *to, size_t most) {
  struct stream *stream = context;
  struct buffer *body = &stream->response.body;
  (void)position;
  while (body->length == 0 && !stream->complete)
    stream->complete = !stream->response.more(stream->response.context, body);
  if (body->length == 0)
    return MHD_CONTENT_READER_END_OF_STREAM;
  size_t length = body->length < most ? body->length : most;
  memcpy(to, body->bytes, length);
  buffer_drop(body, length);
  return (ssize_t)length;
}

static void on_free(void *context) {
  struct stream *stream = context;
  if (stream->response.release)
    stream->response.release(stream->response.context);
  buffer_free(&stream->response.body);
  free(stream);
}

static struct MHD_Response *make_whole(struct buffer *body) {
  struct MHD_Response *reply = MHD_create_response_from_buffer(body->length, body->bytes, MHD_RESPMEM_MUST_FREE);
  if (!reply)
    buffer_free(body);
  return reply;
}

static struct MHD_Response *make_stream(const struct http_response *response) {
  struct stream *stream = memory_new(sizeof *stream);
  *stream = (struct stream){.response = *response};
  struct MHD_Response *reply = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE, on_read, stream, on_free);
  if (!reply)
    on_free(stream);
  return reply;
}

enum MHD_Result reply_send(struct MHD_Connection *connection, struct http_response *response) {
  struct MHD_Response *reply = response->more ? make_stream(response) : make_whole(&response->body);
  if (!reply) /* memory is scarce: the library closes the connection */
    return MHD_NO;
  MHD_add_response_header(reply, MHD_HTTP_HEADER_CONTENT_TYPE,
                          response->type ? response->type : "text/plain; charset=utf-8");
  MHD_add_response_header(reply, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
  MHD_add_response_header(reply, "X-Content-Type-Options", "nosniff");
  if (response->status == MHD_HTTP_METHOD_NOT_ALLOWED)
    MHD_add_response_header(reply, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
  enum MHD_Result result = MHD_queue_response(connection, (unsigned)response->status, reply);
  MHD_destroy_response(reply);
  return result;
}
