#include "connection_state.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "growing_wait.h"
#include "log.h"
#include "memory.h"

enum { WAIT_LEAST_MS = 100, WAIT_MOST_MS = 10000, CONNECT_TIMEOUT_MS = 30000 };

static void on_socket(uv_poll_t *poll, int status, int events);
static void on_timer(uv_timer_t *timer);

struct session_mode session_mode_from_options(const struct options *options) {
  static const enum session_kind kinds[] = {[POOLER_AUTO] = SESSION_UNKNOWN,
                                            [POOLER_NONE] = SESSION_OWN,
                                            [POOLER_SESSION] = SESSION_OWN,
                                            [POOLER_TRANSACTION] = SESSION_SHARED};
  return (struct session_mode){.kind = kinds[options->pooler], .unprepared = options->no_prepare};
}

struct connection *connection_new(uv_loop_t *loop, const char *name, const char *conninfo, int64_t idle_timeout_ms,
                                  struct session_mode *mode, const struct connection_events *events, void *owner) {
  struct connection *c = memory_new(sizeof *c);
  c->loop = loop;
  c->name = memory_text(name);
  c->conninfo = memory_text(conninfo);
  c->idle_timeout_ms = idle_timeout_ms;
  c->mode = mode;
  c->events = events;
  c->owner = owner;
  c->wait_ms = WAIT_LEAST_MS;
  uv_timer_init(loop, &c->timer);
  c->timer.data = c;
  return c;
}

static void free_handle(uv_handle_t *handle) {
  free(handle);
}

static void stop_polling(struct connection *c) {
  if (!c->poll)
    return;
  uv_poll_stop(c->poll);
  uv_close((uv_handle_t *)c->poll, free_handle);
  c->poll = NULL;
}

void connection_poll(struct connection *c, int events) {
  int socket = PQsocket(c->pg);
  if (c->poll && c->poll_socket != socket)
    stop_polling(c);
  if (!c->poll) {
    c->poll = memory_new(sizeof *c->poll);
    uv_poll_init(c->loop, c->poll, socket);
    c->poll->data = c;
    c->poll_socket = socket;
    c->poll_events = 0;
  }
  if (c->poll_events != events) /* asking again for the same costs two system calls */
    uv_poll_start(c->poll, events, on_socket);
  c->poll_events = events;
}

static void drop_session(struct connection *c) {
  stop_polling(c);
  uv_timer_stop(&c->timer);
  if (c->pg)
    PQfinish(c->pg);
  c->pg = NULL;
  c->expected_head = c->expected_tail = 0;
  c->answered = c->asked_who = false;
  free(c->prelude_error);
  c->prelude_error = NULL;
  c->state = STATE_CLOSED;
}

static void free_connection(uv_handle_t *timer) {
  struct connection *c = timer->data;
  free(c->expected);
  free(c->conninfo);
  free(c->name);
  free(c);
}

void connection_free(struct connection *c) {
  if (!c)
    return;
  drop_session(c);
  uv_close((uv_handle_t *)&c->timer, free_connection);
}

void connection_close(struct connection *c) {
  drop_session(c);
}

void connection_works(struct connection *c) {
  c->wait_ms = WAIT_LEAST_MS;
  *c->reason = '\0';
}

bool connection_is_up(const struct connection *c) {
  return c->state == STATE_UP;
}

bool connection_is_unicode(const struct connection *c) {
  const char *encoding = PQparameterStatus(c->pg, "server_encoding");
  return !encoding || strcmp(encoding, "UTF8") == 0 || strcmp(encoding, "SQL_ASCII") == 0;
}

/* One line out of libpq's messages, which may have several, and tabs. */
static void copy_reason(char to[static REASON_SIZE], const char *from) {
  size_t length = 0;
  for (; *from && length < REASON_SIZE - 1; from++)
    if (!isspace((unsigned char)*from))
      to[length++] = *from;
    else if (length > 0 && to[length - 1] != ' ')
      to[length++] = ' ';
  while (length > 0 && to[length - 1] == ' ')
    length--;
  to[length] = '\0';
}

/* The one way a session ends, other than connection_free(). */
static void end_session(struct connection *c, const char *what, const char *reason) {
  char text[REASON_SIZE];
  bool was_up = c->state == STATE_UP;
  copy_reason(text, reason && *reason ? reason : "no reason given");
  drop_session(c);
  bool news = strcmp(text, c->reason) != 0;
  c->told = c->told || news;
  log_line(news ? LOG_WARN : LOG_DEBUG, what, LOG_T("connection", c->name), LOG_T("error", text),
           LOG_US("retry_in", c->wait_ms * 1000));
  memcpy(c->reason, text, sizeof text);
  uv_timer_start(&c->timer, on_timer, (uint64_t)c->wait_ms, 0);
  c->wait_ms = growing_wait_after(c->wait_ms, WAIT_LEAST_MS, WAIT_MOST_MS);
  if (was_up)
    c->events->down(c->owner, text);
}

void connection_fail(struct connection *c, const char *reason) {
  end_session(c, "giving up a session", reason);
}

void connection_cannot_connect(struct connection *c, const char *reason) {
  end_session(c, "cannot connect", reason);
}

static void lost(struct connection *c) {
  end_session(c, "connection lost", PQerrorMessage(c->pg));
}

static void advance_connecting(struct connection *c) {
  uv_poll_stop(c->poll); /* libpq may close the socket and open another of the same number */
  c->poll_events = 0;
  switch (PQconnectPoll(c->pg)) {
  case PGRES_POLLING_READING:
    connection_poll(c, UV_READABLE);
    break;
  case PGRES_POLLING_WRITING:
    connection_poll(c, UV_WRITABLE);
    break;
  case PGRES_POLLING_OK:
    connection_begin_prelude(c);
    break;
  default:
    connection_cannot_connect(c, PQerrorMessage(c->pg));
  }
}

static void on_socket(uv_poll_t *poll, int status, int events) {
  struct connection *c = poll->data;
  PGconn *pg = c->pg;
  if (status < 0) { /* libuv has stopped the handle: what is wrong with the socket comes out by reading it */
    c->poll_events = 0;
    events |= UV_READABLE;
  }
  if (c->state == STATE_CONNECTING) {
    advance_connecting(c);
    return;
  }
  bool readable = !(events & UV_READABLE) || PQconsumeInput(pg);
  connection_take_answers(c);
  if (c->pg == pg)
    connection_take_notifications(c);
  if (c->pg != pg)
    return;
  if (!readable || PQstatus(pg) == CONNECTION_BAD)
    lost(c);
  else
    connection_flush(c);
}

void connection_fail_soon(struct connection *c) {
  PQflush(c->pg);
  uv_timer_start(&c->timer, on_timer, 0, 0);
}

static void ignore_notice(void *context, const char *message) {
  (void)context;
  log_debug("notice from the server", LOG_T("text", message));
}

static void start_connecting(struct connection *c) {
  /*
   * What stands before dbname is a default; what stands in the connection string wins over it. The user timeout also
   * bounds how long a host may leave a connection attempt without any answer, before libpq tries the next one.
   */
  const char *const keywords[] = {
      "fallback_application_name", "keepalives_idle", "keepalives_interval", "keepalives_count",
      "tcp_user_timeout",          "dbname",          "client_encoding",     NULL};
  const char *const values[] = {"pgq-lua", "10", "5", "3", "5000", c->conninfo, "UTF8", NULL};
  c->state = STATE_CONNECTING;
  c->pg = PQconnectStartParams(keywords, values, 1);
  if (!c->pg || PQstatus(c->pg) == CONNECTION_BAD) {
    connection_cannot_connect(c, c->pg ? PQerrorMessage(c->pg) : "out of memory");
    return;
  }
  PQsetNoticeProcessor(c->pg, ignore_notice, NULL);
  uv_timer_start(&c->timer, on_timer, CONNECT_TIMEOUT_MS, 0);
  connection_poll(c, UV_WRITABLE);
}

static void on_timer(uv_timer_t *timer) {
  struct connection *c = timer->data;
  char reason[256];
  switch (c->state) {
  case STATE_CLOSED:
    start_connecting(c);
    break;
  case STATE_CONNECTING:
  case STATE_PRELUDE:
    snprintf(reason, sizeof reason, "connection to \"%.100s\", port %.10s: no answer within %d s",
             PQhost(c->pg) ? PQhost(c->pg) : "", PQport(c->pg) ? PQport(c->pg) : "", CONNECT_TIMEOUT_MS / 1000);
    connection_cannot_connect(c, reason);
    break;
  case STATE_UP:
    lost(c);
    break;
  }
}

void connection_open(struct connection *c) {
  if (c->state == STATE_CLOSED && !uv_is_active((uv_handle_t *)&c->timer))
    start_connecting(c);
}
