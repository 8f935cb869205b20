/* The half of connection.h that is about acts: what is sent in a session, the prelude first, and what is answered. */
#include "connection_state.h"

#include <stdio.h>
#include <stdlib.h>

#include "log.h"
#include "memory.h"

bool result_failed(const PGresult *result) {
  ExecStatusType status = PQresultStatus(result);
  return status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE || status == PGRES_PIPELINE_ABORTED;
}

bool result_is_cause(const PGresult *result) {
  return result_failed(result) && PQresultStatus(result) != PGRES_PIPELINE_ABORTED;
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

void connection_flush(struct connection *c) {
  int more = PQflush(c->pg);
  if (more < 0)
    return; /* the reading side finds the connection gone */
  connection_poll(c, UV_READABLE | (more ? UV_WRITABLE : 0));
}

void connection_send(struct connection *c, enum statement statement, const struct parameters *parameters) {
  if (c->state != STATE_UP)
    return;
  if (statement_send(c->pg, statement, parameters, c->unprepared) != 0)
    connection_fail_soon(c);
  expect(c, statement);
}

static void send_settings(struct connection *c, bool for_transaction) {
  struct parameters parameters = {0};
  char timeout[32];
  snprintf(timeout, sizeof timeout, "%lld", (long long)c->idle_timeout_ms);
  parameters_add_text(&parameters, timeout);
  parameters_add_bool(&parameters, for_transaction);
  if (statement_send(c->pg, STATEMENT_SESSION_SETTINGS, &parameters, true) != 0)
    connection_fail_soon(c);
  parameters_free(&parameters);
  expect(c, STATEMENT_SESSION_SETTINGS);
}

void connection_begin(struct connection *c) {
  if (c->state != STATE_UP)
    return;
  connection_send(c, STATEMENT_BEGIN, NULL);
  if (c->mode->kind == SESSION_SHARED)
    send_settings(c, true);
}

void connection_sync(struct connection *c) {
  if (c->state != STATE_UP && c->state != STATE_PRELUDE)
    return;
  if (!PQpipelineSync(c->pg))
    connection_fail_soon(c);
  expect(c, EXPECT_SYNC);
  connection_flush(c);
}

/* In a session of our own: its settings, and the statements of holds. */
static void make_settings(struct connection *c) {
  send_settings(c, false);
  c->unprepared = c->mode->unprepared || c->idle_timeout_ms == 0;
  for (int statement = 0; !c->unprepared && statement < STATEMENT_COUNT; statement++)
    if (statement_is_prepared(statement)) {
      statement_prepare(c->pg, statement);
      expect(c, STATEMENT_SESSION_SETTINGS);
    }
  connection_sync(c);
}

static void end_prelude(struct connection *c);

void connection_begin_prelude(struct connection *c) {
  c->state = STATE_PRELUDE;
  c->unprepared = true;
  PQsetnonblocking(c->pg, 1);
  PQenterPipelineMode(c->pg);
  if (c->mode->kind == SESSION_OWN) {
    make_settings(c);
  } else if (c->mode->kind == SESSION_SHARED) {
    end_prelude(c);
  } else {
    statement_send(c->pg, STATEMENT_BACKEND_PID, NULL, true);
    expect(c, STATEMENT_BACKEND_PID);
    connection_sync(c);
  }
}

/* A pooler gives its clients a process number of its own making. How it lends sessions is not known then, so the worker
 * assumes what leaves nothing behind. */
static void take_who(struct connection *c, const PGresult *result) {
  c->mode->kind = result_i32(result, 0, 0) == PQbackendPID(c->pg) ? SESSION_OWN : SESSION_SHARED;
}

static void end_prelude(struct connection *c) {
  if (c->prelude_error) {
    char *reason = c->prelude_error;
    c->prelude_error = NULL;
    connection_cannot_connect(c, reason);
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
    if (expected != STATEMENT_SESSION_SETTINGS || result_failed(result))
      c->events->result(c->owner, (enum statement)expected, result);
  } else if (result_is_cause(result) && !c->prelude_error) {
    c->prelude_error = memory_text(PQresultErrorMessage(result));
  } else if (expected == STATEMENT_BACKEND_PID && !result_failed(result)) {
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

void connection_take_answers(struct connection *c) {
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

void connection_take_notifications(struct connection *c) {
  PGconn *pg = c->pg;
  PGnotify *notification;
  while (c->pg == pg && (notification = PQnotifies(pg)) != NULL) {
    if (c->state == STATE_UP && c->events->notified)
      c->events->notified(c->owner, notification->relname, notification->extra);
    PQfreemem(notification);
  }
}
