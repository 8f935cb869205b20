#include "connection.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"

enum { WAIT_LEAST_MS = 100, WAIT_MOST_MS = 10000, CONNECT_TIMEOUT_MS = 30000, REASON_SIZE = 1024 };

/* What the answers that are still to come belong to: a statement, or the end of an act. */
enum { EXPECT_SYNC = STATEMENT_COUNT };

enum state {
  STATE_CLOSED,     /* no session; the timer runs if it is to be opened again */
  STATE_CONNECTING, /* pg is being connected; the timer bounds it */
  STATE_PRELUDE,    /* connected, settings and prepared statements under way; the timer bounds it */
  STATE_UP,         /* the owner's */
};

struct connection {
  uv_loop_t *loop;
  char *name;
  char *conninfo;
  int64_t idle_timeout_ms; /* 0: no transactions */
  struct session_mode *mode;
  bool unprepared; /* this session: nothing has been prepared in it */
  const struct connection_events *events;
  void *owner;

  enum state state;
  PGconn *pg;
  uv_poll_t *poll; /* on the socket of pg; of its own memory, since a handle outlives its session by a turn */
  int poll_socket, poll_events;
  uv_timer_t timer;
  int64_t wait_ms;          /* before the next try */
  char reason[REASON_SIZE]; /* why the last session, or try, ended: the same reason is not logged twice */
  bool told;                /* a loss was logged; that it is over is to be logged, too */

  unsigned char *expected; /* ring-less queue: entries head..tail are still to be answered */
  size_t expected_head, expected_tail, expected_capacity;
  bool asked_who;      /* the prelude has found out whose the session is, and may go on */
  bool answered;       /* the head has had its result; its closing NULL is still to come */
  int last;            /* the statement that was answered last */
  char *prelude_error; /* first error of the prelude */
};

bool result_failed(const PGresult *result) {
  ExecStatusType status = PQresultStatus(result);
  return status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE || status == PGRES_PIPELINE_ABORTED;
}

bool result_is_cause(const PGresult *result) {
  return result_failed(result) && PQresultStatus(result) != PGRES_PIPELINE_ABORTED;
}

static void on_socket(uv_poll_t *poll, int status, int events);
static void on_timer(uv_timer_t *timer);

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

static void poll_for(struct connection *c, int events) {
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
  c->wait_ms = c->wait_ms * 2 < WAIT_MOST_MS ? c->wait_ms * 2 : WAIT_MOST_MS;
  if (was_up)
    c->events->down(c->owner, text);
}

void connection_fail(struct connection *c, const char *reason) {
  end_session(c, "giving up a session", reason);
}

static void cannot_connect(struct connection *c, const char *reason) {
  end_session(c, "cannot connect", reason);
}

static void lost(struct connection *c) {
  end_session(c, "connection lost", PQerrorMessage(c->pg));
}

static void expect(struct connection *c, int what) {
  if (c->expected_head == c->expected_tail)
    c->expected_head = c->expected_tail = 0;
  if (c->expected_tail == c->expected_capacity) {
    c->expected_capacity = c->expected_capacity ? c->expected_capacity * 2 : 32;
    c->expected = memory_resize(c->expected, c->expected_capacity);
  }
  c->expected[c->expected_tail++] = (unsigned char)what;
}

/* Sends what libpq has collected, and asks the loop for the rest. */
static void flush(struct connection *c) {
  int more = PQflush(c->pg);
  if (more < 0)
    return; /* the reading side finds the connection gone */
  poll_for(c, UV_READABLE | (more ? UV_WRITABLE : 0));
}

/* Ends the act of an error that a send met: told later, from the loop, as for any other loss. */
static void fail_soon(struct connection *c) {
  PQflush(c->pg);
  uv_timer_start(&c->timer, on_timer, 0, 0);
}

void connection_send(struct connection *c, enum statement statement, const struct parameters *parameters) {
  if (c->state != STATE_UP)
    return;
  if (statement_send(c->pg, statement, parameters, c->unprepared) != 0)
    fail_soon(c);
  expect(c, statement);
}

static void send_settings(struct connection *c, bool for_transaction) {
  struct parameters parameters = {0};
  char timeout[32];
  snprintf(timeout, sizeof timeout, "%lld", (long long)c->idle_timeout_ms);
  parameters_add_text(&parameters, timeout);
  parameters_add_bool(&parameters, for_transaction);
  if (statement_send(c->pg, STATEMENT_SESSION, &parameters, true) != 0)
    fail_soon(c);
  parameters_free(&parameters);
  expect(c, STATEMENT_SESSION);
}

void connection_begin(struct connection *c) {
  if (c->state != STATE_UP)
    return;
  connection_send(c, STATEMENT_BEGIN, NULL);
  if (c->mode->kind == SESSION_SHARED)
    send_settings(c, true);
}

void connection_settle_in(struct connection *c) {
  if (c->state != STATE_UP)
    return;
  send_settings(c, false);
  connection_sync(c);
}

void connection_sync(struct connection *c) {
  if (c->state != STATE_UP && c->state != STATE_PRELUDE)
    return;
  if (!PQpipelineSync(c->pg))
    fail_soon(c);
  expect(c, EXPECT_SYNC);
  flush(c);
}

/* In a session of our own: its settings, and the statements of holds. */
static void make_settings(struct connection *c) {
  send_settings(c, false);
  c->unprepared = c->mode->unprepared || c->idle_timeout_ms == 0;
  for (int statement = 0; !c->unprepared && statement < STATEMENT_COUNT; statement++)
    if (statement_is_prepared(statement)) {
      statement_prepare(c->pg, statement);
      expect(c, STATEMENT_SESSION);
    }
  connection_sync(c);
}

static void end_prelude(struct connection *c);

static void begin_prelude(struct connection *c) {
  c->state = STATE_PRELUDE;
  c->unprepared = true;
  PQsetnonblocking(c->pg, 1);
  PQenterPipelineMode(c->pg);
  if (c->mode->kind == SESSION_OWN) {
    make_settings(c);
  } else if (c->mode->kind == SESSION_SHARED) {
    end_prelude(c);
  } else {
    statement_send(c->pg, STATEMENT_WHO, NULL, true);
    expect(c, STATEMENT_WHO);
    connection_sync(c);
  }
}

/* A pooler tells its clients a process number of its own making. */
static void take_who(struct connection *c, const PGresult *result) {
  if (c->mode->kind == SESSION_UNKNOWN && result_i32(result, 0, 0) == PQbackendPID(c->pg))
    c->mode->kind = SESSION_OWN;
}

static void end_prelude(struct connection *c) {
  if (c->prelude_error) {
    char *reason = c->prelude_error;
    c->prelude_error = NULL;
    cannot_connect(c, reason);
    free(reason);
    return;
  }
  uv_timer_stop(&c->timer);
  c->state = STATE_UP;
  if (c->told)
    log_info("connected again", LOG_T("connection", c->name));
  c->told = false;
  c->events->up(c->owner);
}

static void take_answer(struct connection *c, int expected, PGresult *result) {
  if (c->state == STATE_UP) {
    if (expected != STATEMENT_SESSION || result_failed(result))
      c->events->result(c->owner, (enum statement)expected, result);
  } else if (result_is_cause(result) && !c->prelude_error) {
    c->prelude_error = memory_text(PQresultErrorMessage(result));
  } else if (expected == STATEMENT_WHO && !result_failed(result)) {
    take_who(c, result);
    c->asked_who = true;
  }
}

static void take_sync(struct connection *c) {
  bool asked_who = c->asked_who;
  c->expected_head++;
  c->asked_who = false;
  if (c->state != STATE_PRELUDE)
    c->events->synced(c->owner);
  else if (asked_who && c->mode->kind == SESSION_OWN)
    make_settings(c);
  else
    end_prelude(c);
}

/*
 * The statement at the head has no more results. A result at the head's EXPECT_SYNC was the error of a commit, of an
 * act without BEGIN: the sync is still to come.
 */
static void close_answer(struct connection *c) {
  if (c->answered)
    c->expected_head += c->expected[c->expected_head] != EXPECT_SYNC;
  c->answered = false;
}

/* Hands out all answers that are there. Whoever is called may give the connection up: then pg changes. */
static void take_answers(struct connection *c) {
  PGconn *pg = c->pg;
  while (c->pg == pg && c->expected_head < c->expected_tail && !PQisBusy(pg)) {
    PGresult *result = PQgetResult(pg);
    if (!result && !c->answered)
      return;
    close_answer(c); /* libpq leaves out an error's NULL when something is sent before it is asked for */
    if (!result)
      continue;
    if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
      PQclear(result);
      take_sync(c);
    } else {
      c->answered = true;
      if (c->expected[c->expected_head] != EXPECT_SYNC)
        c->last = c->expected[c->expected_head];
      take_answer(c, c->last, result);
      PQclear(result);
    }
  }
}

static void take_notifications(struct connection *c) {
  PGconn *pg = c->pg;
  PGnotify *notification;
  while (c->pg == pg && (notification = PQnotifies(pg)) != NULL) {
    if (c->state == STATE_UP && c->events->notified)
      c->events->notified(c->owner, notification->relname, notification->extra);
    PQfreemem(notification);
  }
}

static void advance_connecting(struct connection *c) {
  uv_poll_stop(c->poll); /* libpq may close the socket and open another of the same number */
  c->poll_events = 0;
  switch (PQconnectPoll(c->pg)) {
  case PGRES_POLLING_READING:
    poll_for(c, UV_READABLE);
    break;
  case PGRES_POLLING_WRITING:
    poll_for(c, UV_WRITABLE);
    break;
  case PGRES_POLLING_OK:
    begin_prelude(c);
    break;
  default:
    cannot_connect(c, PQerrorMessage(c->pg));
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
  take_answers(c);
  if (c->pg == pg)
    take_notifications(c);
  if (c->pg != pg)
    return;
  if (!readable || PQstatus(pg) == CONNECTION_BAD)
    lost(c);
  else
    flush(c);
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
    cannot_connect(c, c->pg ? PQerrorMessage(c->pg) : "out of memory");
    return;
  }
  PQsetNoticeProcessor(c->pg, ignore_notice, NULL);
  uv_timer_start(&c->timer, on_timer, CONNECT_TIMEOUT_MS, 0);
  poll_for(c, UV_WRITABLE);
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
    cannot_connect(c, reason);
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
