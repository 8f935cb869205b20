#include "connection.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "connector.h"
#include "growing_wait.h"
#include "log.h"
#include "memory.h"

/* After the server was away for long, all workers are back within WAIT_MOST_MS of each other, before one of them counts
 * as dead for the others (FREE_MS in dead_workers.c). */
enum { WAIT_LEAST_MS = 100, WAIT_MOST_MS = 3000, CONNECT_TIMEOUT_MS = 10000, START_TIMEOUT_MS = 30000 };

enum { REASON_SIZE = 1024 };

/* How often a problem that lasts is logged again. */
enum { REPEAT_MS = 60000 };

/* For how long the tables need no other check, unless a session is lost. */
enum { CHECKED_FOR_MS = 10000 };

/*
 *     CLOSED ─► CONNECTING ─► ASKING ─► PREPARING ─► UP
 *        ▲       │  ▲  any of these        │         │ the session is lost, cannot be had, or is given up
 *        │       ▼  │ the wait is over     ▼         ▼
 *        └────── RETRYING ◄──────────────────────────┘
 *
 * ASKING is left out when the mode is known, and PREPARING in a shared session. connection_close() leads from every
 * state to CLOSED.
 *
 *                        pg         pipeline        timer runs until
 *   CONNECTION_CLOSED      –          –               –
 *   CONNECTION_RETRYING    –          –               the next attempt
 *   CONNECTION_CONNECTING  –          –               a look-up or an address has taken too long
 *   CONNECTION_ASKING      yes        the question    the start of the session has taken too long
 *   CONNECTION_PREPARING   yes        settings, …     the same
 *   CONNECTION_UP          yes        the owner's     – (0 ms when libpq refused a statement: the session is given up)
 *
 * In CONNECTING there is a `connector` instead of `pg`. There is a `poll` whenever there is either.
 *
 * `error` is used in ASKING and PREPARING only, `ending` in UP only; all other fields are valid in every state.
 */
enum connection_state {
  CONNECTION_CLOSED,
  CONNECTION_RETRYING,
  CONNECTION_CONNECTING,
  CONNECTION_ASKING, /* asks for the number of the server's process: a pooler has told the client another number */
  CONNECTION_PREPARING,
  CONNECTION_UP,
  CONNECTION_STATE_COUNT,
};

struct connection {
  uv_loop_t *loop;
  char *name;
  char *conninfo;
  int64_t idle_timeout_ms; /* 0: no transactions */
  struct session_mode *mode;
  const struct connection_events *events;
  void *owner;

  enum connection_state state;
  struct connector *connector;
  PGconn *pg;
  uv_poll_t *poll; /* on the socket of pg, or on what the connector waits for; allocated by itself, because a handle
                    * outlives its session by one loop turn */
  int poll_socket, poll_events;
  uv_timer_t timer;
  struct pipeline pipeline;
  char *error;        /* the first error of a statement */
  int32_t server_pid; /* process number and start of the last session at the server; 0: none, or a pooler's */
  int64_t server_start;
  bool ending; /* the act that ends the session before this one is under way; the owner knows nothing of it */

  int64_t wait_ms;               /* before the next attempt */
  char last_reason[REASON_SIZE]; /* why the last session or attempt ended: the same reason is not logged twice */
  bool loss_logged;              /* a loss was logged, so the next connect is logged, too */
};

static void on_socket(uv_poll_t *poll, int status, int events);
static void on_timer(uv_timer_t *timer);
static void begin_session(struct connection *c);

struct session_mode session_mode_from_options(const struct options *options) {
  static const enum session_kind kinds[] = {[POOLER_AUTO] = SESSION_UNKNOWN,
                                            [POOLER_NONE] = SESSION_OWN,
                                            [POOLER_SESSION] = SESSION_OWN,
                                            [POOLER_TRANSACTION] = SESSION_SHARED};
  return (struct session_mode){.kind = kinds[options->pooler], .unprepared = options->no_prepare};
}

/* The only function that writes the state. A transition that is not in its table is a fault of the program. */
static void connection_set_state(struct connection *c, enum connection_state next) {
#define TO(state) (1u << CONNECTION_##state)
  static const unsigned allowed[CONNECTION_STATE_COUNT] = {
      [CONNECTION_CLOSED] = TO(CONNECTING),
      [CONNECTION_RETRYING] = TO(CONNECTING) | TO(CLOSED),
      [CONNECTION_CONNECTING] = TO(ASKING) | TO(PREPARING) | TO(UP) | TO(RETRYING) | TO(CLOSED),
      [CONNECTION_ASKING] = TO(PREPARING) | TO(UP) | TO(RETRYING) | TO(CLOSED),
      [CONNECTION_PREPARING] = TO(UP) | TO(RETRYING) | TO(CLOSED),
      [CONNECTION_UP] = TO(RETRYING) | TO(CLOSED),
  };
#undef TO
  if (!(allowed[c->state] >> next & 1)) {
    log_error("internal error: a connection cannot change its state like this; the worker ends",
              LOG_T("connection", c->name), LOG_I("from", c->state), LOG_I("to", next));
    abort();
  }
  c->state = next;
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

bool connection_is_up(const struct connection *c) {
  return c->state == CONNECTION_UP;
}

struct database_name connection_database(const struct connection *c) {
  const char *texts[] = {PQhost(c->pg), PQport(c->pg), PQdb(c->pg), PQuser(c->pg)}; /* null without a session */
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
    texts[i] = texts[i] ? texts[i] : "";
  return (struct database_name){texts[0], texts[1], texts[2], texts[3]};
}

bool connection_is_unicode(const struct connection *c) {
  const char *encoding = PQparameterStatus(c->pg, "server_encoding");
  return !encoding || strcmp(encoding, "UTF8") == 0 || strcmp(encoding, "SQL_ASCII") == 0;
}

void connection_works(struct connection *c) {
  c->wait_ms = WAIT_LEAST_MS;
  *c->last_reason = '\0';
}

/* ── the socket ── */

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

/* Waits for these events on the socket, which changes while one address after the other is tried. */
static void poll_socket(struct connection *c, int events) {
  int socket = c->connector ? connector_fd(c->connector) : PQsocket(c->pg);
  if (c->poll && c->poll_socket != socket)
    stop_polling(c);
  if (!c->poll) {
    c->poll = memory_new(sizeof *c->poll);
    uv_poll_init(c->loop, c->poll, socket);
    c->poll->data = c;
    c->poll_socket = socket;
    c->poll_events = 0;
  }
  if (c->poll_events != events) /* asking again for the same events costs two system calls */
    uv_poll_start(c->poll, events, on_socket);
  c->poll_events = events;
}

/* Sends the bytes that libpq has collected. The loop sends the rest when the socket takes it. */
static void flush(struct connection *c) {
  int more = PQflush(c->pg);
  if (more >= 0) /* otherwise on_socket() will notice that the connection is lost */
    poll_socket(c, UV_READABLE | (more ? UV_WRITABLE : 0));
}

/* ── the end of a session ── */

/* Copies libpq's message, which may have several lines and tabs, as one line. */
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

/*
 * A session ended or could not be had. Returns how often the reason has come since it was logged last, if it is to be
 * logged again: a reason that is not new is logged once in REPEAT_MS for the whole worker. Returns 0 if not.
 */
static int count_repeated(struct session_problem *problem, bool is_new) {
  problem->repeated += !is_new;
  int repeated = !is_new && clock_ms() - problem->logged_ms >= REPEAT_MS ? problem->repeated : 0;
  if (is_new || repeated > 0) {
    problem->logged_ms = clock_ms();
    problem->repeated = 0;
  }
  return repeated;
}

/*
 * Every session, and every attempt to connect, ends here. `message` and `reason` are logged. The next state is
 * CONNECTION_CLOSED if the owner closes the connection, or CONNECTION_RETRYING: then down() is called if the connection
 * was up.
 */
static void disconnect(struct connection *c, enum connection_state next, const char *message, const char *reason) {
  char text[REASON_SIZE];
  struct session_problem *problem = &c->mode->problem;
  bool was_up = c->state == CONNECTION_UP, retry = next == CONNECTION_RETRYING;
  copy_reason(text, reason && *reason ? reason : "no reason given");
  stop_polling(c);
  uv_timer_stop(&c->timer);
  pipeline_clear(&c->pipeline);
  PQfinish(c->pg);
  c->pg = NULL;
  connector_free(c->connector);
  c->connector = NULL;
  free(c->error);
  c->error = NULL;
  c->ending = false;
  connection_set_state(c, next);
  c->mode->lost += was_up && retry;
  if (retry || problem->owner == c) {
    snprintf(problem->text, sizeof problem->text, "%s", retry ? text : "");
    problem->owner = retry ? c : NULL;
  }
  if (!retry) {
    c->server_pid = 0; /* the server ends this session by itself */
    log_debug(message, LOG_T("connection", c->name), LOG_T("reason", text));
    return;
  }
  bool is_new = strcmp(text, c->last_reason) != 0;
  c->loss_logged = c->loss_logged || is_new;
  int repeated = count_repeated(problem, is_new);
  log_line(is_new || repeated > 0 ? LOG_WARN : LOG_DEBUG, message, LOG_T("connection", c->name), LOG_T("error", text),
           LOG_US("retry_in", c->wait_ms * 1000), repeated > 0 ? LOG_I("times", repeated) : (struct log_field){0});
  memcpy(c->last_reason, text, sizeof text);
  uv_timer_start(&c->timer, on_timer, (uint64_t)c->wait_ms, 0);
  c->wait_ms = growing_wait_after(c->wait_ms, WAIT_LEAST_MS, WAIT_MOST_MS);
  if (was_up)
    c->events->down(c->owner, text);
}

static void cannot_connect(struct connection *c, const char *reason) {
  disconnect(c, CONNECTION_RETRYING, "cannot connect", reason);
}

static void lose(struct connection *c) {
  disconnect(c, CONNECTION_RETRYING, "connection lost", PQerrorMessage(c->pg));
}

void connection_fail(struct connection *c, const char *reason) {
  if (c->pg || c->connector)
    disconnect(c, CONNECTION_RETRYING, "giving up a session", reason);
}

void connection_close(struct connection *c, const char *reason) {
  if (c->state != CONNECTION_CLOSED)
    disconnect(c, CONNECTION_CLOSED, "connection closed", reason);
}

static void free_connection(uv_handle_t *timer) {
  struct connection *c = timer->data;
  pipeline_free(&c->pipeline);
  free(c->conninfo);
  free(c->name);
  free(c);
}

void connection_free(struct connection *c) {
  if (!c)
    return;
  connection_close(c, "the worker does not need it any more");
  uv_close((uv_handle_t *)&c->timer, free_connection);
}

/* ── connecting ── */

static void ignore_notice(void *context, const char *message) {
  (void)context;
  log_debug("notice from the server", LOG_T("text", message));
}

static void follow_connecting(struct connection *c, enum connector_progress progress) {
  int64_t left_ms;
  switch (progress) {
  case CONNECTOR_DONE:
    c->pg = connector_take(c->connector);
    connector_free(c->connector);
    c->connector = NULL;
    begin_session(c);
    return;
  case CONNECTOR_FAILED:
    cannot_connect(c, connector_error(c->connector));
    return;
  case CONNECTOR_READ:
  case CONNECTOR_WRITE:
    left_ms = connector_left_ms(c->connector);
    uv_timer_start(&c->timer, on_timer, (uint64_t)(left_ms < 0 ? START_TIMEOUT_MS : left_ms), 0);
    poll_socket(c, progress == CONNECTOR_READ ? UV_READABLE : UV_WRITABLE);
    return;
  }
}

static void start_connecting(struct connection *c) {
  /* The keywords before dbname are defaults; those in the connection string take precedence over them. */
  const char *const keywords[] = {
      "fallback_application_name", "keepalives_idle", "keepalives_interval", "keepalives_count",
      "tcp_user_timeout",          "dbname",          "client_encoding",     NULL};
  const char *const values[] = {"pgq-lua", "10", "5", "3", "5000", c->conninfo, "UTF8", NULL};
  connection_set_state(c, CONNECTION_CONNECTING);
  c->connector = connector_start(keywords, values, CONNECT_TIMEOUT_MS);
  if (c->connector)
    follow_connecting(c, connector_step(c->connector));
  else
    cannot_connect(c, "out of memory");
}

void connection_open(struct connection *c) {
  if (c->state == CONNECTION_CLOSED)
    start_connecting(c);
}

/* `step` is connector_step(), or connector_expire() when the time is over. */
static void advance_connecting(struct connection *c, enum connector_progress step(struct connector *connector)) {
  uv_poll_stop(c->poll); /* the step may close the socket and open another of the same number */
  c->poll_events = 0;
  follow_connecting(c, step(c->connector));
}

static void on_timer(uv_timer_t *timer) {
  struct connection *c = timer->data;
  char reason[256];
  switch (c->state) {
  case CONNECTION_RETRYING:
    start_connecting(c);
    break;
  case CONNECTION_CONNECTING:
    advance_connecting(c, connector_expire);
    break;
  case CONNECTION_ASKING:
  case CONNECTION_PREPARING:
    snprintf(reason, sizeof reason, "connection to \"%.100s\", port %.10s: no answer within %d s",
             PQhost(c->pg) ? PQhost(c->pg) : "", PQport(c->pg) ? PQport(c->pg) : "", START_TIMEOUT_MS / 1000);
    cannot_connect(c, PQstatus(c->pg) == CONNECTION_BAD ? PQerrorMessage(c->pg) : reason);
    break;
  default:
    lose(c);
    break;
  }
}

/* ── sending ── */

/* libpq has refused a statement. This is reported from the loop, like any other loss, since the caller cannot handle
 * the loss during its call. */
static void check_sent(struct connection *c, int result) {
  if (result == 0)
    return;
  PQflush(c->pg);
  uv_timer_start(&c->timer, on_timer, 0, 0);
}

void connection_send(struct connection *c, enum statement statement, const struct parameters *parameters) {
  if (c->state == CONNECTION_UP)
    check_sent(c, pipeline_send(&c->pipeline, statement, parameters));
}

void connection_send_text(struct connection *c, enum statement statement, const struct parameters *parameters) {
  if (c->state == CONNECTION_UP)
    check_sent(c, pipeline_send_text(&c->pipeline, statement, parameters));
}

void connection_ask_answer(struct connection *c) {
  if (c->state == CONNECTION_UP)
    check_sent(c, PQsendFlushRequest(c->pg) ? 0 : -1);
}

static void end_act(struct connection *c) {
  check_sent(c, pipeline_sync(&c->pipeline));
  flush(c);
}

void connection_sync(struct connection *c) {
  if (c->state == CONNECTION_UP)
    end_act(c);
}

static void send_settings(struct connection *c, bool for_transaction) {
  struct parameters parameters = {0};
  char timeout[32];
  snprintf(timeout, sizeof timeout, "%lld", (long long)c->idle_timeout_ms);
  parameters_add_text(&parameters, timeout);
  parameters_add_bool(&parameters, for_transaction);
  check_sent(c, pipeline_send_text(&c->pipeline, STATEMENT_SESSION_SETTINGS, &parameters));
  parameters_free(&parameters);
}

void connection_begin(struct connection *c) {
  connection_send(c, STATEMENT_BEGIN, NULL);
  if (c->state == CONNECTION_UP && c->mode->kind == SESSION_SHARED)
    send_settings(c, true);
}

/* ── the start of a session ── */

/*
 * A session of our own ends the one before it, which the server may still have. This is sent just before the owner's
 * first statements, so that these wait for the locks of that session and get them before anybody else does.
 */
static void end_old_session(struct connection *c) {
  struct parameters parameters = {0};
  parameters_add_i32(&parameters, c->server_pid);
  parameters_add_i64(&parameters, c->server_start);
  check_sent(c, pipeline_send(&c->pipeline, STATEMENT_END_OLD_SESSION, &parameters));
  end_act(c);
  parameters_free(&parameters);
  c->ending = true;
}

static void come_up(struct connection *c) {
  uv_timer_stop(&c->timer);
  connection_set_state(c, CONNECTION_UP);
  if (c->mode->kind == SESSION_OWN)
    end_old_session(c);
  if (c->mode->problem.owner == c) {
    c->mode->problem.text[0] = '\0';
    c->mode->problem.owner = NULL;
  }
  if (c->loss_logged)
    log_info("connected again", LOG_T("connection", c->name));
  c->loss_logged = false;
  c->events->up(c->owner);
}

/* The tables may have been altered since the last session. A check takes the server many milliseconds, so the holds of
 * a worker that starts do not repeat that of its control session. */
static bool needs_check(const struct connection *c) {
  bool checked = c->mode->checked_ms != 0 && clock_ms() - c->mode->checked_ms < CHECKED_FOR_MS;
  return c->idle_timeout_ms > 0 && (c->server_pid != 0 || !checked);
}

static void check_schema(struct connection *c) {
  struct parameters parameters = {0};
  parameters_add_bool(&parameters, true);
  check_sent(c, pipeline_send_text(&c->pipeline, STATEMENT_CHECK_SCHEMA, &parameters));
  parameters_free(&parameters);
}

/* A session of our own gets its settings, and the prepared statements of holds. A shared session gets neither. */
static void prepare_session(struct connection *c) {
  if (c->mode->kind == SESSION_SHARED) {
    come_up(c);
    return;
  }
  connection_set_state(c, CONNECTION_PREPARING);
  send_settings(c, false);
  if (needs_check(c))
    check_schema(c);
  c->pipeline.unprepared = c->mode->unprepared || c->idle_timeout_ms == 0;
  for (int statement = 0; !c->pipeline.unprepared && statement < STATEMENT_COUNT; statement++)
    if (statement_is_prepared(statement))
      check_sent(c, pipeline_prepare(&c->pipeline, statement));
  end_act(c);
}

static void begin_session(struct connection *c) {
  PQsetNoticeProcessor(c->pg, ignore_notice, NULL);
  uv_timer_start(&c->timer, on_timer, START_TIMEOUT_MS, 0);
  pipeline_begin(&c->pipeline, c->pg);
  poll_socket(c, UV_READABLE);
  if (c->mode->kind != SESSION_UNKNOWN) {
    prepare_session(c);
    return;
  }
  connection_set_state(c, CONNECTION_ASKING);
  check_sent(c, pipeline_send(&c->pipeline, STATEMENT_BACKEND_PID, NULL));
  end_act(c);
}

/* ── answers ── */

/* A role that may not ask, or not end the old session, goes on without: the server ends that session by itself. */
static void take_server_session(struct connection *c, const PGresult *result) {
  if (result_failed(result)) {
    log_debug("cannot end the session that this connection had before", LOG_T("connection", c->name),
              LOG_T("error", PQresultErrorMessage(result)));
    return;
  }
  if (PQntuples(result) != 1 || PQgetisnull(result, 0, 1))
    return;
  c->server_pid = result_i32(result, 0, 0);
  c->server_start = result_i64(result, 0, 1);
  if (!PQgetisnull(result, 0, 2))
    log_info("the server had not noticed that a session was lost: the worker has ended it",
             LOG_T("connection", c->name));
}

/* Takes an answer that comes before the connection is up. A pooler gives its clients process numbers of its own. The
 * worker then does not know whether the pooler shares sessions, and assumes that it does. */
static void take_first_answer(struct connection *c, enum statement statement, const PGresult *result) {
  if (result_is_cause(result) && !c->error)
    c->error = memory_text(PQresultErrorMessage(result));
  else if (statement == STATEMENT_CHECK_SCHEMA && PQntuples(result) > 0 && !c->error)
    c->error = memory_text(PQgetvalue(result, 0, 0));
  else if (statement == STATEMENT_CHECK_SCHEMA && !result_failed(result))
    c->mode->checked_ms = clock_ms();
  else if (statement == STATEMENT_BACKEND_PID && !result_failed(result))
    c->mode->kind = result_i32(result, 0, 0) == PQbackendPID(c->pg) ? SESSION_OWN : SESSION_SHARED;
}

static void take_result(struct connection *c, enum statement statement, PGresult *result) {
  if (statement == STATEMENT_END_OLD_SESSION)
    take_server_session(c, result);
  else if (c->state != CONNECTION_UP)
    take_first_answer(c, statement, result);
  else if (statement != STATEMENT_SESSION_SETTINGS ||
           result_failed(result)) /* the owner did not ask for the settings */
    c->events->result(c->owner, statement, result);
}

static void take_sync(struct connection *c) {
  if (c->ending)
    c->ending = false;
  else if (c->state == CONNECTION_UP)
    c->events->synced(c->owner);
  else if (c->error)
    cannot_connect(c, c->error);
  else if (c->state == CONNECTION_ASKING)
    prepare_session(c);
  else
    come_up(c);
}

/* Takes all answers that have come in. The owner may give the session up meanwhile: then `pg` changes. */
static void take_answers(struct connection *c) {
  PGconn *pg = c->pg;
  enum pipeline_answer answer;
  enum statement statement;
  PGresult *result;
  while (c->pg == pg && (answer = pipeline_next(&c->pipeline, &statement, &result)) != PIPELINE_NOTHING)
    if (answer == PIPELINE_SYNCED) {
      take_sync(c);
    } else {
      take_result(c, statement, result);
      PQclear(result);
    }
}

static void take_notifications(struct connection *c) {
  PGconn *pg = c->pg;
  PGnotify *notification;
  while (c->pg == pg && (notification = PQnotifies(pg)) != NULL) {
    if (c->state == CONNECTION_UP && c->events->notified)
      c->events->notified(c->owner, notification->relname, notification->extra, notification->be_pid);
    PQfreemem(notification);
  }
}

static void on_socket(uv_poll_t *poll, int status, int events) {
  struct connection *c = poll->data;
  PGconn *pg = c->pg;
  if (status < 0) { /* libuv has stopped the handle: reading shows what is wrong with the socket */
    c->poll_events = 0;
    events |= UV_READABLE;
  }
  if (c->state == CONNECTION_CONNECTING) {
    advance_connecting(c, connector_step);
    return;
  }
  bool readable = !(events & UV_READABLE) || PQconsumeInput(pg);
  take_answers(c);
  if (c->pg == pg)
    take_notifications(c);
  if (c->pg != pg)
    return;
  if (!readable || PQstatus(pg) == CONNECTION_BAD)
    lose(c);
  else
    flush(c);
}
