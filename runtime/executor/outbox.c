#include "outbox.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "forked.h"
#include "frame.h"
#include "memory.h"
#include "protocol.h"

/* While outcomes come in, the thread sends them this often; else it sleeps. More bytes than FLUSH_SIZE are sent at
 * once. */
enum { FLUSH_EVERY_MS = 3, FLUSH_SIZE = 256 * 1024 };

struct outbox {
  int socket;
  uv_mutex_t lock; /* for the fields below, and for writing to the socket */
  uv_cond_t wake;
  uv_thread_t thread;
  struct buffer outcomes;
  bool active; /* an outcome has come in since the thread last sent */
  bool asleep; /* the thread waits for `wake` */
  bool ending;
};

/* Sends all bytes. Waits while the socket is full: the supervisor always reads. */
static void send_all(struct outbox *outbox, const unsigned char *bytes, size_t length) {
  while (length > 0) {
    ssize_t sent = send(outbox->socket, bytes, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
      _exit(0); /* the supervisor has ended, and its claims with it */
    if (sent < 0)
      poll(&(struct pollfd){.fd = outbox->socket, .events = POLLOUT}, 1, -1);
    bytes += sent > 0 ? sent : 0;
    length -= sent > 0 ? (size_t)sent : 0;
  }
}

static void send_frame(struct outbox *outbox, uint8_t type, const struct buffer *fields) {
  struct buffer out = {0};
  size_t mark = frame_begin(&out, type);
  buffer_add(&out, fields->bytes, fields->length);
  frame_finish(&out, mark);
  send_all(outbox, out.bytes, out.length);
  buffer_free(&out);
}

static void flush(struct outbox *outbox) {
  if (outbox->outcomes.length == 0)
    return;
  send_frame(outbox, FRAME_OUTCOMES, &outbox->outcomes);
  buffer_drop(&outbox->outcomes, outbox->outcomes.length);
}

static void flush_regularly(void *context) {
  struct outbox *outbox = context;
  uv_mutex_lock(&outbox->lock);
  while (!outbox->ending) {
    while (!outbox->active && !outbox->ending) {
      outbox->asleep = true;
      uv_cond_wait(&outbox->wake, &outbox->lock);
      outbox->asleep = false;
    }
    outbox->active = false;
    uv_mutex_unlock(&outbox->lock);
    nanosleep(&(struct timespec){.tv_nsec = FLUSH_EVERY_MS * 1000000}, NULL);
    uv_mutex_lock(&outbox->lock);
    flush(outbox);
  }
  uv_mutex_unlock(&outbox->lock);
}

struct outbox *outbox_new(int socket) {
  struct outbox *outbox = memory_new(sizeof *outbox);
  outbox->socket = socket;
  uv_mutex_init(&outbox->lock);
  uv_cond_init(&outbox->wake);
  if (uv_thread_create(&outbox->thread, flush_regularly, outbox) == 0)
    return outbox;
  free(outbox);
  return NULL;
}

void outbox_add_outcome(struct outbox *outbox, const struct buffer *fields) {
  uv_mutex_lock(&outbox->lock);
  buffer_add(&outbox->outcomes, fields->bytes, fields->length);
  if (outbox->outcomes.length > FLUSH_SIZE)
    flush(outbox);
  outbox->active = true;
  if (outbox->asleep)
    uv_cond_signal(&outbox->wake);
  uv_mutex_unlock(&outbox->lock);
}

void outbox_send(struct outbox *outbox, uint8_t type, const struct buffer *fields) {
  if (forked_is_child())
    return;
  uv_mutex_lock(&outbox->lock);
  flush(outbox);
  send_frame(outbox, type, fields);
  uv_mutex_unlock(&outbox->lock);
}

void outbox_flush(struct outbox *outbox) {
  if (forked_is_child()) /* another thread may have held the lock */
    return;
  uv_mutex_lock(&outbox->lock);
  flush(outbox);
  uv_mutex_unlock(&outbox->lock);
}

void outbox_free(struct outbox *outbox) {
  if (!outbox)
    return;
  uv_mutex_lock(&outbox->lock);
  outbox->ending = true;
  uv_cond_signal(&outbox->wake);
  uv_mutex_unlock(&outbox->lock);
  uv_thread_join(&outbox->thread);
  uv_cond_destroy(&outbox->wake);
  uv_mutex_destroy(&outbox->lock);
  buffer_free(&outbox->outcomes);
  free(outbox);
}
