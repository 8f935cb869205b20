#include "top_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "commands_sql.h"
#include "connector.h"
#include "failure.h"
#include "growing_wait.h"
#include "memory.h"
#include "printable.h"
#include "text.h"
#include "transaction.h"

/* A statement may take as long as STATEMENT_TIMEOUT_MS. A server that says nothing for ANSWER_TIMEOUT_MS is lost. */
#define STATEMENT_TIMEOUT_MS "5000"

enum { ANSWER_TIMEOUT_MS = 10000, CONNECT_TIMEOUT_MS = 10000, WAIT_LEAST_MS = 500, WAIT_MOST_MS = 10000 };

/* What has been sent last, in the state TOP_ASKING. After a refused statement there is a second transaction if the
 * privileges are to be named. */
enum phase { PHASE_BEGIN, PHASE_SETTINGS, PHASE_STATEMENT, PHASE_PRIVILEGES, PHASE_ROLLBACK };

struct top_session {
  const struct options *options;
  enum top_session_state state;
  struct connector *connector; /* in TOP_CONNECTING */
  enum connector_progress progress;
  PGconn *pg; /* in TOP_IDLE and TOP_ASKING */
  bool must_flush;

  struct top_question question; /* `next` is NULL when it was forgotten */
  struct top_answer answer;
  enum phase phase;
  PGresult *result; /* of the statement that is being asked, as far as it has come */
  bool refused, denied;
  int64_t began_ms, sent_ms, took_ms;

  int64_t wait_ms, retry_at_ms; /* in TOP_WAITING */
  char error[1024];
  char host[256];
};

static void ignore_notice(void *context, const char *message) {
  (void)context;
  (void)message;
}

static void clear_answer(struct top_answer *answer) {
  while (answer->count > 0)
    PQclear(answer->results[--answer->count]);
}

static void set_error(struct top_session *session, const char *text) {
  char line[sizeof session->error];
  struct buffer seen = {0};
  text_clean(line, sizeof line, text, strlen(text));
  for (size_t i = strlen(line); i > 0; i--)
    if (line[i - 1] == '\n' || line[i - 1] == '\t')
      line[i - 1] = line[i] ? ' ' : '\0';
  printable_add(&seen, line, PRINTABLE_CELL);
  text_clean(session->error, sizeof session->error, (const char *)seen.bytes, seen.length);
  buffer_free(&seen);
}

/* ── connecting ── */

static void start_connecting(struct top_session *session) {
  /* Keywords before dbname are defaults; those of the connection string take precedence. */
  static const char *const keywords[] = {
      "fallback_application_name", "keepalives_idle", "keepalives_interval", "keepalives_count",
      "tcp_user_timeout",          "dbname",          "client_encoding",     NULL};
  const char *const values[] = {"pgq-lua top", "10", "5", "3", "10000", session->options->db, "UTF8", NULL};
  session->state = TOP_CONNECTING;
  session->connector = connector_start(keywords, values, CONNECT_TIMEOUT_MS);
  session->progress = session->connector ? connector_step(session->connector) : CONNECTOR_FAILED;
}

static enum top_event lose(struct top_session *session, const char *why) {
  set_error(session, why);
  connector_free(session->connector);
  PQclear(session->result);
  PQfinish(session->pg);
  session->connector = NULL;
  session->result = NULL;
  session->pg = NULL;
  session->state = TOP_WAITING;
  session->wait_ms = growing_wait_after(session->wait_ms, WAIT_LEAST_MS, WAIT_MOST_MS);
  session->retry_at_ms = clock_ms() + session->wait_ms;
  return TOP_LOST;
}

static bool is_ready(int fd, short events) {
  return poll(&(struct pollfd){fd, events, 0}, 1, 0) > 0;
}

static enum top_event go_on_connecting(struct top_session *session) {
  if (session->progress == CONNECTOR_READ || session->progress == CONNECTOR_WRITE) {
    if (is_ready(connector_fd(session->connector), session->progress == CONNECTOR_READ ? POLLIN : POLLOUT))
      session->progress = connector_step(session->connector);
    else if (connector_left_ms(session->connector) == 0)
      session->progress = connector_expire(session->connector);
  }
  if (session->progress == CONNECTOR_FAILED)
    return lose(session, session->connector ? connector_error(session->connector) : "out of memory");
  if (session->progress != CONNECTOR_DONE)
    return TOP_NOTHING;
  session->pg = connector_take(session->connector);
  connector_free(session->connector);
  session->connector = NULL;
  PQsetNoticeProcessor(session->pg, ignore_notice, NULL);
  PQsetnonblocking(session->pg, 1);
  snprintf(session->host, sizeof session->host, "%s", PQhost(session->pg) ? PQhost(session->pg) : "");
  session->state = TOP_IDLE;
  return TOP_CONNECTED;
}

/* ── asking ── */

static void send_statement(struct top_session *session, enum phase phase, const char *sql, int count,
                           const char *const *values) {
  session->phase = phase;
  session->sent_ms = clock_ms();
  PQsendQueryParams(session->pg, sql, count, NULL, values, NULL, NULL, 0); /* a failure shows as a broken connection */
  session->must_flush = true;
}

static void begin(struct top_session *session) {
  send_statement(session, PHASE_BEGIN, TRANSACTION_READ_ONLY, 0, NULL);
}

/* Sends the next statement of the question, or the end of the transaction. */
static void send_next(struct top_session *session) {
  struct top_statement statement = {0};
  const struct top_question *question = &session->question;
  if (question->next && session->answer.count < TOP_RESULTS &&
      question->next(question->context, &session->answer, &statement))
    send_statement(session, PHASE_STATEMENT, statement.sql, statement.count, statement.values);
  else
    send_statement(session, PHASE_ROLLBACK, "ROLLBACK", 0, NULL);
}

/* Takes note of a failed statement; the transaction is rolled back next. */
static void refuse(struct top_session *session) {
  struct pgq_error error;
  char text[sizeof error.message + 256];
  failure_from_result(&error, session->pg, session->result);
  snprintf(text, sizeof text, "%s%s", error.message, transaction_hint(error.sqlstate));
  session->denied = !session->refused && strcmp(error.sqlstate, "42501") == 0;
  session->refused = true;
  set_error(session, text);
  send_statement(session, PHASE_ROLLBACK, "ROLLBACK", 0, NULL);
}

/* After the statement that names the role and the missing privileges. */
static void name_privileges(struct top_session *session) {
  if (!PQgetisnull(session->result, 0, 1)) {
    size_t length = strlen(session->error);
    snprintf(session->error + length, sizeof session->error - length,
             "; the role '%.200s' does not have: %.500s. To grant that: %.500s", PQgetvalue(session->result, 0, 0),
             PQgetvalue(session->result, 0, 1), PQgetvalue(session->result, 0, 2));
  }
  send_statement(session, PHASE_ROLLBACK, "ROLLBACK", 0, NULL);
}

static enum top_event finish(struct top_session *session) {
  session->state = TOP_IDLE;
  session->took_ms = clock_ms() - session->began_ms;
  session->wait_ms = 0;
  if (!session->question.next)
    return TOP_NOTHING;
  if (!session->refused)
    session->error[0] = '\0';
  return session->refused ? TOP_REFUSED : TOP_ANSWERED;
}

/* A statement has ended; sends what follows. */
static enum top_event follow(struct top_session *session) {
  ExecStatusType status = PQresultStatus(session->result);
  bool good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
  if (!good && session->phase == PHASE_ROLLBACK)
    return lose(session, PQresultErrorMessage(session->result));
  if (!good) {
    refuse(session);
  } else if (session->phase == PHASE_BEGIN) {
    char lock_wait[24];
    snprintf(lock_wait, sizeof lock_wait, "%d", TRANSACTION_READ_LOCK_WAIT_MS);
    send_statement(session, PHASE_SETTINGS, SQL_COMMAND_SETTINGS, 2, (const char *[]){STATEMENT_TIMEOUT_MS, lock_wait});
  } else if (session->phase == PHASE_SETTINGS && session->denied) {
    session->denied = false;
    send_statement(session, PHASE_PRIVILEGES, SQL_MISSING_PRIVILEGES, 1, (const char *[]){session->question.needs});
  } else if (session->phase == PHASE_SETTINGS) {
    send_next(session);
  } else if (session->phase == PHASE_STATEMENT) {
    session->answer.results[session->answer.count++] = session->result;
    session->result = NULL;
    send_next(session);
  } else if (session->phase == PHASE_PRIVILEGES) {
    name_privileges(session);
  } else if (session->denied) {
    begin(session);
  } else {
    PQclear(session->result);
    session->result = NULL;
    return finish(session);
  }
  PQclear(session->result);
  session->result = NULL;
  return TOP_NOTHING;
}

/* Reads what has come. Returns whether the statement has ended. */
static bool read_result(struct top_session *session) {
  while (!PQisBusy(session->pg)) {
    PGresult *result = PQgetResult(session->pg);
    if (!result)
      return true;
    PQclear(session->result);
    session->result = result;
  }
  return false;
}

static enum top_event go_on_asking(struct top_session *session) {
  for (;;) {
    if (session->must_flush)
      session->must_flush = PQflush(session->pg) > 0;
    if (!PQconsumeInput(session->pg) || PQstatus(session->pg) == CONNECTION_BAD)
      return lose(session, PQerrorMessage(session->pg));
    if (!read_result(session))
      break;
    enum top_event event = follow(session);
    if (event != TOP_NOTHING || session->state != TOP_ASKING)
      return event;
  }
  return clock_ms() - session->sent_ms < ANSWER_TIMEOUT_MS ? TOP_NOTHING
                                                           : lose(session, "the server does not answer any more");
}

void top_session_ask(struct top_session *session, struct top_question question) {
  if (session->state != TOP_IDLE)
    abort();
  clear_answer(&session->answer);
  session->question = question;
  session->refused = session->denied = false;
  session->state = TOP_ASKING;
  session->began_ms = clock_ms();
  begin(session);
}

void top_session_forget(struct top_session *session) {
  session->question.next = NULL;
}

enum top_event top_session_step(struct top_session *session) {
  switch (session->state) {
  case TOP_WAITING:
    if (clock_ms() >= session->retry_at_ms)
      start_connecting(session);
    return TOP_NOTHING;
  case TOP_CONNECTING:
    return go_on_connecting(session);
  case TOP_ASKING:
    return go_on_asking(session);
  case TOP_IDLE: /* the server says that it ends the session */
    if (is_ready(PQsocket(session->pg), POLLIN) && !PQconsumeInput(session->pg))
      return lose(session, PQerrorMessage(session->pg));
    PQfreemem(PQnotifies(session->pg));
    return PQstatus(session->pg) == CONNECTION_BAD ? lose(session, PQerrorMessage(session->pg)) : TOP_NOTHING;
  }
  abort();
}

/* ── the life of a session, and what it says ── */

struct top_session *top_session_new(const struct options *options) {
  struct top_session *session = memory_new(sizeof *session);
  session->options = options;
  start_connecting(session);
  return session;
}

void top_session_free(struct top_session *session) {
  if (!session)
    return;
  clear_answer(&session->answer);
  connector_free(session->connector);
  PQclear(session->result);
  PQfinish(session->pg);
  free(session);
}

struct pollfd top_session_poll(const struct top_session *session) {
  switch (session->state) {
  case TOP_WAITING:
    break;
  case TOP_CONNECTING:
    if (session->progress == CONNECTOR_READ || session->progress == CONNECTOR_WRITE)
      return (struct pollfd){connector_fd(session->connector), session->progress == CONNECTOR_READ ? POLLIN : POLLOUT,
                             0};
    break;
  case TOP_IDLE:
  case TOP_ASKING:
    return (struct pollfd){PQsocket(session->pg), session->must_flush ? POLLIN | POLLOUT : POLLIN, 0};
  }
  return (struct pollfd){-1, 0, 0};
}

int64_t top_session_left_ms(const struct top_session *session) {
  int64_t left_ms = -1;
  if (session->state == TOP_WAITING)
    left_ms = session->retry_at_ms - clock_ms();
  else if (session->state == TOP_ASKING)
    left_ms = session->sent_ms + ANSWER_TIMEOUT_MS - clock_ms();
  else if (session->state == TOP_CONNECTING && session->connector)
    return session->progress == CONNECTOR_READ || session->progress == CONNECTOR_WRITE
               ? connector_left_ms(session->connector)
               : 0;
  else
    return session->state == TOP_CONNECTING ? 0 : -1;
  return left_ms > 0 ? left_ms : 0;
}

enum top_session_state top_session_state(const struct top_session *session) {
  return session->state;
}

const struct top_answer *top_session_answer(const struct top_session *session) {
  return &session->answer;
}

int64_t top_session_took_ms(const struct top_session *session) {
  return session->state == TOP_ASKING ? clock_ms() - session->began_ms : session->took_ms;
}

const char *top_session_error(const struct top_session *session) {
  return session->error;
}

const char *top_session_host(const struct top_session *session) {
  return session->host;
}
