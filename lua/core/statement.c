/* Statements on a handle, in three parts: send; advance() until it is done, or finish(), which waits; take what came.
 */

#include "handle.h"

#include <lauxlib.h>
#include <string.h>

#include "failure.h"
#include "preparing.h"
#include "request.h"
#include "room.h"
#include "values.h"

/* What a COPY sends is read to its end and dropped, so that the connection can be used again, unless it is more. */
enum { COPY_MAX = 16 << 20 };

/* ---- Sending */

static bool begin(struct handle *handle, struct pgq_error *error) {
  results_clear(&handle->answer);
  handle->copied = handle->copying = false;
  handle->dropped = 0;
  handle->steps = 0;
  if (PQstatus(handle->conn) == CONNECTION_OK)
    return true;
  failure_set(error, "08006", "the connection to the database is broken");
  return false;
}

/* handle:nonblocking(boolean): whether sending leaves to advance() what the server does not take at once. */
static int handle_nonblocking(lua_State *L) {
  PGconn *conn = handle_check(L)->conn;
  if (conn != NULL && PQisnonblocking(conn) != lua_toboolean(L, 2))
    (void)PQsetnonblocking(conn, lua_toboolean(L, 2));
  return 0;
}

/* handle:send(sql, ...) -> how: 1 as it is, 2 prepared, 3 it is being prepared, and is to be sent again when
 * take_prepared() has succeeded; or nil, message, code; or false, message for a value that cannot be a parameter. The
 * values behind sql are the parameters $1, $2, … */
static int handle_send(lua_State *L) {
  struct handle *handle = handle_check(L);
  struct parameters parameters;
  struct pgq_error error;
  size_t length;
  const char *sql = luaL_checklstring(L, 2, &length);
  if (handle->conn == NULL)
    return handle_fail_closed(L, handle);
  if (strlen(sql) != length)
    return handle_fail(L, "22021", "the statement holds a NUL byte");
  if (values_read_parameters(L, 3, &parameters, &error) != 0 || !begin(handle, &error))
    return handle_push_failure(L, &error);
  handle->bloated = parameters.bytes > HANDLE_LARGE || handle->bloated;
  enum sent sent = preparing_send(handle, sql, &parameters, false);
  if (sent == SENT_FAILED) {
    failure_from_result(&error, handle->conn, NULL);
    return handle_push_failure(L, &error);
  }
  lua_pushinteger(L, sent);
  return 1;
}

/* Sets the retry waits from the list of texts at `index`; none means no retries. Pushes an array that has to stay. */
static void read_waits(lua_State *L, int index, struct pgq_options *options) {
  size_t count = lua_objlen(L, index);
  const char **waits = lua_newuserdata(L, (count + 1) * sizeof *waits);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, index, (int)i + 1);
    waits[i] = luaL_checkstring(L, -1);
    lua_pop(L, 1); /* the list still holds it */
  }
  options->retry_waits = waits;
  options->retry_wait_count = count;
  options->no_retries = count == 0;
}

int statement_read_options(lua_State *L, int first, const char **queue, struct pgq_options *options,
                           struct pgq_error *error) {
  size_t queue_length, after_length = 0;
  *queue = luaL_checklstring(L, first, &queue_length);
  options->after = luaL_optlstring(L, first + 1, NULL, &after_length);
  options->delay_ms = (int64_t)luaL_optnumber(L, first + 2, 0);
  if (!lua_isnoneornil(L, first + 3))
    read_waits(L, first + 3, options);
  const bool clean = strlen(*queue) == queue_length;
  if (clean && (options->after == NULL || strlen(options->after) == after_length))
    return 0;
  failure_set(error, "22023", "%s holds a NUL byte", clean ? "the earliest time to run" : "the queue name");
  return -1;
}

/* Sends the INSERT of one job. Returns how; or SENT_FAILED with an error. */
static enum sent send_job(struct handle *handle, const char *queue, const char *data, size_t length,
                          const struct pgq_options *options, struct pgq_error *error) {
  struct request request;
  PGconn *conn = handle->conn;
  enum sent sent = SENT_FAILED;
  if (!begin(handle, error) || request_init(&request, conn, queue, options, error) != 0)
    return sent;
  if (request_check_data(data, length, error) == 0) {
    handle->bloated = length > HANDLE_LARGE || handle->bloated;
    request_set_data(&request, OID_BYTEA, data, length);
    const struct parameters parameters = {.count = REQUEST_PARAMETERS,
                                          .types = request.types,
                                          .values = request.values,
                                          .lengths = request.lengths,
                                          .formats = request.formats};
    sent = preparing_send(handle, request_insert_sql, &parameters, true);
    if (sent == SENT_FAILED)
      failure_from_result(error, conn, NULL);
  }
  request_free(&request);
  return sent;
}

/* handle:send_job(data, queue, after, delay_ms, waits) -> how, as send(); or nil, message, code. The last three may be
 * nil. */
static int handle_send_job(lua_State *L) {
  struct handle *handle = handle_check(L);
  struct pgq_options options = PGQ_OPTIONS_INIT;
  struct pgq_error error;
  const char *queue;
  size_t length;
  const char *data = luaL_checklstring(L, 2, &length);
  if (handle->conn == NULL)
    return handle_fail_closed(L, handle);
  enum sent sent = SENT_FAILED;
  if (statement_read_options(L, 3, &queue, &options, &error) == 0)
    sent = send_job(handle, queue, data, length, &options, &error);
  if (sent == SENT_FAILED)
    return handle_push_failure(L, &error);
  lua_pushinteger(L, sent);
  return 1;
}

/* ---- Advancing */

/* Ends a COPY that the server has begun. Returns false when that closed the connection. */
static bool end_copy(struct handle *handle, ExecStatusType status) {
  /* A second one: the connection is broken, and the state never changes. */
  if (handle->copied || (status != PGRES_COPY_OUT && PQputCopyEnd(handle->conn, "COPY is not supported") != 1)) {
    handle_shut(handle, "0A000", "COPY is not supported here; the connection is closed, since it could not be ended");
    return false;
  }
  handle->copied = true;
  handle->copying = status == PGRES_COPY_OUT;
  return true;
}

/* Drops the rows of a COPY that have come, or with `wait` all. Returns false when there may be more later. */
static bool drop_rows(struct handle *handle, bool wait) {
  char *row;
  int length;
  while ((length = PQgetCopyData(handle->conn, &row, !wait)) > 0) {
    PQfreemem(row);
    handle->dropped += (size_t)length;
    if (handle->dropped > COPY_MAX) {
      handle_shut(handle, "0A000", "COPY is not supported here; the connection is closed, since it sent too much");
      return true;
    }
  }
  handle->copying = length == 0;
  return !handle->copying;
}

static bool is_success(const PGresult *result) {
  ExecStatusType status = PQresultStatus(result);
  return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY;
}

/* Takes one result of the statement. Returns false when it was the last. */
static bool take_result(struct handle *handle) {
  PGresult *result = PQgetResult(handle->conn);
  ExecStatusType status = PQresultStatus(result);
  if (result == NULL)
    return false;
  if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
    PQclear(result);
    return end_copy(handle, status);
  }
  /* What has succeeded can still fail when it is committed. The first failure counts: of a connection that breaks, it
   * has the reason. */
  if (handle->answer.result == NULL || is_success(handle->answer.result)) {
    PQclear(handle->answer.result);
    handle->answer.result = result;
  } else {
    PQclear(result);
  }
  return true;
}

/* Takes what has come, or with `wait` all that comes. Returns whether the statement has ended. */
static bool collect(struct handle *handle, bool wait) {
  while (handle->conn != NULL) {
    if (handle->copying && !drop_rows(handle, wait))
      return false;
    if (handle->conn == NULL)
      break;
    if (!wait && PQisBusy(handle->conn))
      return false;
    if (!take_result(handle))
      break;
  }
  return true;
}

/* Closes the connection when what comes leaves no room for anything else: Lua cannot go on without. */
static void mind_memory(struct handle *handle) {
  if (++handle->steps % 16 == 0 && room_is_short())
    handle_shut(handle, "53200", "not enough memory for the result; the connection is closed, since it broke off");
}

/* What the statement waits for when it has not ended. */
static enum progress rest(struct handle *handle) {
  bool unsent = PQflush(handle->conn) == 1;
  if (PQsocket(handle->conn) < 0)
    return PROGRESS_LOST;
  return unsent ? PROGRESS_WRITE : PROGRESS_READ;
}

/* handle:flush() -> what the statement that was sent waits for: 1 that the socket can be read; 2 that it can be read or
 * written; 3 nothing, since it is gone: advance() is due. */
static int handle_flush(lua_State *L) {
  lua_pushinteger(L, rest(handle_check(L)));
  return 1;
}

/* handle:advance() -> what the statement waits for: 0 nothing, it has ended; 1 that the socket can be read; 2 that it
 * can be read or written; 3 nothing, it has ended, and the socket is gone. */
static int handle_advance(lua_State *L) {
  struct handle *handle = handle_check(L);
  enum progress progress = PROGRESS_DONE;
  if (handle->conn != NULL) {
    /* What fails here shows in the result. */
    (void)PQconsumeInput(handle->conn);
    mind_memory(handle);
    if (!collect(handle, false))
      progress = rest(handle);
  }
  if (PQsocket(handle->conn) < 0) {
    (void)collect(handle, true); /* waits for nothing: there is nowhere to wait */
    progress = PROGRESS_LOST;
  }
  lua_pushinteger(L, progress);
  return 1;
}

/* handle:finish(): waits until the statement has ended. */
static int handle_finish(lua_State *L) {
  (void)collect(handle_check(L), true);
  return 0;
}

/* ---- Taking */

int statement_push_absence(lua_State *L, struct handle *handle) {
  const char *code = handle->code;
  handle->code = NULL;
  if (code != NULL)
    return handle_fail(L, code, handle->closed_by);
  if (handle->copied)
    return handle_fail(L, "0A000", "COPY is not supported here");
  return handle->conn == NULL ? handle_fail_closed(L, handle) : 0;
}

void statement_explain(struct handle *handle, struct pgq_error *error) {
  const char *sqlstate = PQresultErrorField(handle->answer.result, PG_DIAG_SQLSTATE);
  const char *function = PQresultErrorField(handle->answer.result, PG_DIAG_SOURCE_FUNCTION);
  failure_from_result(error, handle->conn, handle->answer.result);
  if (PQstatus(handle->conn) == CONNECTION_BAD &&
      strstr(PQerrorMessage(handle->conn), "cannot allocate memory") != NULL)
    failure_set(error, "53200", "not enough memory for the result; the connection is closed, since it broke off");
  if (sqlstate == NULL && strcmp(error->sqlstate, "XX000") == 0)
    memcpy(error->sqlstate, "53200", sizeof "53200"); /* libpq's own: it had no memory for the result */
  /* Told by the place in the server, since the message may be in any language. */
  if (strcmp(error->sqlstate, "42601") == 0 && function != NULL && strcmp(function, "exec_parse_message") == 0)
    failure_set(error, "42601", "there is more than one statement in the text; send them one by one");
}

/* handle:take_rows() -> rows, tag; or nil, message, code. The tag is the first word or words of what the server says it
 * has done, such as "SELECT 1". A Lua error when memory runs out, after which clear() is due. */
static int handle_take_rows(lua_State *L) {
  struct handle *handle = handle_check(L);
  struct pgq_error error;
  int failed = statement_push_absence(L, handle);
  if (failed)
    return failed;
  if (!is_success(handle->answer.result)) {
    statement_explain(handle, &error);
    results_clear(&handle->answer);
    return handle_push_failure(L, &error);
  }
  const bool bloated = handle->bloated;
  preparing_see(handle);
  handle->bloated = bloated || PQresultMemorySize(handle->answer.result) > HANDLE_LARGE; /* should memory run out */
  handle->bloated = results_push_rows(L, &handle->answer) > HANDLE_LARGE || bloated;
  /* A SELECT that returns no rows has created a table. */
  const bool created = PQresultStatus(handle->answer.result) == PGRES_COMMAND_OK &&
                       strncmp(PQcmdStatus(handle->answer.result), "SELECT", 6) == 0;
  lua_pushstring(L, created ? "CREATE TABLE AS" : PQcmdStatus(handle->answer.result));
  results_clear(&handle->answer);
  return 2;
}

/* handle:take_id() -> id of the job of send_job(), as its digits when a number cannot hold it; or nil, message, code.
 */
static int handle_take_id(lua_State *L) {
  struct handle *handle = handle_check(L);
  struct pgq_error error;
  int failed = statement_push_absence(L, handle);
  if (failed)
    return failed;
  int64_t id = request_take_id(handle->conn, handle->answer.result, &error);
  results_clear(&handle->answer);
  if (id < 0)
    return handle_push_failure(L, &error);
  values_push_integer(L, id);
  return 1;
}

/* handle:clear(): frees a result that was not taken. */
static int handle_clear(lua_State *L) {
  results_clear(&handle_check(L)->answer);
  return 0;
}

void statement_add_methods(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"advance", handle_advance},         {"clear", handle_clear},
      {"finish", handle_finish},           {"flush", handle_flush},
      {"nonblocking", handle_nonblocking}, {"send", handle_send},
      {"send_job", handle_send_job},       {"take_id", handle_take_id},
      {"take_rows", handle_take_rows},     {NULL, NULL},
  };
  luaL_setfuncs(L, methods, 0);
  preparing_add_methods(L);
}
