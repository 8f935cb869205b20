#include "statement.h"

#include <lauxlib.h>
#include <string.h>

#include "failure.h"
#include "handle.h"
#include "memory_scarce.h"
#include "parameters.h"
#include "prepared.h"
#include "request.h"
#include "value.h"

/* The rows of a COPY TO are read and dropped, so that the connection can be used again, unless they have more bytes. */
enum { COPY_MAX = 16 << 20 };

/* ---- Sending */

/* Prepares the handle for a new statement. Returns false with an error when the connection is broken. */
static bool begin(struct handle *handle, struct pgq_error *error) {
  results_clear(&handle->answer);
  handle->copy = HANDLE_COPY_NONE;
  handle->copy_bytes = 0;
  handle->advance_count = 0;
  if (PQstatus(handle->conn) == CONNECTION_OK)
    return true;
  failure_set(error, "08006", "the connection to the database is broken");
  return false;
}

/* handle:nonblocking(boolean): with true, sending does not block; advance() sends what could not be sent at once. */
static int handle_nonblocking(lua_State *L) {
  PGconn *conn = handle_check(L)->conn;
  if (conn != NULL && PQisnonblocking(conn) != lua_toboolean(L, 2))
    (void)PQsetnonblocking(conn, lua_toboolean(L, 2));
  return 0;
}

/* handle:send(sql, ...) -> how: 1 whole; 2 as a prepared statement; 3 it is only being prepared, and must be sent again
 * after take_prepared(). Or nil, message, code; or false, message for a value that cannot be a parameter. The values
 * after sql are the parameters $1, $2, … */
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
  if (parameters_read(L, 3, &parameters, &error) != 0 || !begin(handle, &error))
    return handle_push_failure(L, &error);
  handle->bloated = parameters.bytes > HANDLE_LARGE || handle->bloated;
  enum sent sent = prepared_send(L, handle, sql, &parameters, false);
  if (sent == SENT_FAILED) {
    failure_from_result(&error, handle->conn, NULL);
    return handle_push_failure(L, &error);
  }
  lua_pushinteger(L, sent);
  return 1;
}

/* handle:send_several(sql) -> 1: sends statements that are separated by semicolons; or nil, message, code. The result
 * is that of the last one, or of the first that has failed. */
static int handle_send_several(lua_State *L) {
  struct handle *handle = handle_check(L);
  struct pgq_error error;
  const char *sql = luaL_checkstring(L, 2);
  if (handle->conn == NULL)
    return handle_fail_closed(L, handle);
  if (!begin(handle, &error))
    return handle_push_failure(L, &error);
  if (!PQsendQuery(handle->conn, sql)) {
    failure_from_result(&error, handle->conn, NULL);
    return handle_push_failure(L, &error);
  }
  lua_pushinteger(L, SENT_WHOLE);
  return 1;
}

/* Sets the retry waits from the list of texts at `index`; an empty list means no retries. Pushes an array that must
 * stay on the stack. */
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
static enum sent send_job(lua_State *L, struct handle *handle, const char *queue, const char *data, size_t length,
                          const struct pgq_options *options, struct pgq_error *error) {
  struct request request;
  PGconn *conn = handle->conn;
  enum sent sent = SENT_FAILED;
  /* With the key on the stack, prepared_send() allocates nothing in Lua while the request owns memory: an error that
   * Lua raises there would leak it. */
  prepared_push_fixed_key(L, request_insert_sql);
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
    sent = prepared_send(L, handle, request_insert_sql, &parameters, true);
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
    sent = send_job(L, handle, queue, data, length, &options, &error);
  if (sent == SENT_FAILED)
    return handle_push_failure(L, &error);
  lua_pushinteger(L, sent);
  return 1;
}

/* ---- Advancing */

/* Ends a COPY that the server has begun. Returns false when the connection had to be closed for that. */
static bool end_copy(struct handle *handle, ExecStatusType status) {
  /* A second COPY in one statement means that the connection is broken in a way in which libpq never gets further. */
  if (handle->copy != HANDLE_COPY_NONE ||
      (status != PGRES_COPY_OUT && PQputCopyEnd(handle->conn, "COPY is not supported") != 1)) {
    handle_shut(handle, "0A000", "COPY is not supported here; the connection is closed, since it could not be ended");
    return false;
  }
  handle->copy = status == PGRES_COPY_OUT ? HANDLE_COPY_READING : HANDLE_COPY_ENDED;
  return true;
}

/* Drops the rows of a COPY that have come; with `wait`, blocks until all have come. Returns false when more rows may
 * come later. */
static bool drop_rows(struct handle *handle, bool wait) {
  char *row;
  int length;
  while ((length = PQgetCopyData(handle->conn, &row, !wait)) > 0) {
    PQfreemem(row);
    handle->copy_bytes += (size_t)length;
    if (handle->copy_bytes > COPY_MAX) {
      handle_shut(handle, "0A000", "COPY is not supported here; the connection is closed, since it sent too much");
      return true;
    }
  }
  if (length == 0)
    return false;
  handle->copy = HANDLE_COPY_ENDED;
  return true;
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
  /* A statement whose result says success can still fail when it commits. The first failure counts: when a connection
   * breaks, it has the reason. */
  if (handle->answer.result == NULL || is_success(handle->answer.result)) {
    PQclear(handle->answer.result);
    handle->answer.result = result;
  } else {
    PQclear(result);
  }
  return true;
}

/* Takes the results that have come; with `wait`, blocks until all have come. Returns whether the statement has ended.
 */
static bool collect(struct handle *handle, bool wait) {
  while (handle->conn != NULL) {
    if (handle->copy == HANDLE_COPY_READING && !drop_rows(handle, wait))
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

/* Closes the connection when its result leaves too little memory: LuaJIT ends the process when it gets none. */
static void check_memory(struct handle *handle) {
  if (++handle->advance_count % 16 == 0 && memory_is_scarce_here())
    handle_shut(handle, "53200", "not enough memory for the result; the connection was closed");
}

/* What a statement waits for that has not ended yet. */
static enum handle_progress flush(struct handle *handle) {
  bool unsent = PQflush(handle->conn) == 1;
  if (PQsocket(handle->conn) < 0)
    return HANDLE_LOST;
  return unsent ? HANDLE_WAIT_WRITE : HANDLE_WAIT_READ;
}

/* handle:flush() -> what the statement that was sent waits for: 1 that the socket can be read; 2 that it can be read or
 * written; 3 nothing, since the socket is gone: then advance() must be called. */
static int handle_flush(lua_State *L) {
  lua_pushinteger(L, flush(handle_check(L)));
  return 1;
}

/* handle:advance() -> what the statement waits for: 0 nothing, it has ended; 1 that the socket can be read; 2 that it
 * can be read or written; 3 nothing, it has ended and the socket is gone. */
static int handle_advance(lua_State *L) {
  struct handle *handle = handle_check(L);
  enum handle_progress progress = HANDLE_DONE;
  if (handle->conn != NULL) {
    (void)PQconsumeInput(handle->conn); /* the result has the error */
    check_memory(handle);
    if (!collect(handle, false))
      progress = flush(handle);
  }
  if (PQsocket(handle->conn) < 0) {
    (void)collect(handle, true); /* does not block: there is no socket to wait for */
    progress = HANDLE_LOST;
  }
  lua_pushinteger(L, progress);
  return 1;
}

/* handle:finish(): blocks until the statement has ended. */
static int handle_finish(lua_State *L) {
  (void)collect(handle_check(L), true);
  return 0;
}

/* ---- Taking */

/* handle:take_rows() -> rows, tag; or nil, message, code. The tag is the command tag, such as "SELECT 1". Raises a Lua
 * error when memory runs out; then clear() must be called. */
static int handle_take_rows(lua_State *L) {
  struct handle *handle = handle_check(L);
  struct pgq_error error;
  int failed = handle_push_absence(L, handle);
  if (failed)
    return failed;
  if (!is_success(handle->answer.result)) {
    handle_explain(handle, &error);
    results_clear(&handle->answer);
    return handle_push_failure(L, &error);
  }
  const bool bloated = handle->bloated;
  prepared_note_success(L, handle, PQcmdStatus(handle->answer.result));
  handle->bloated = bloated || PQresultMemorySize(handle->answer.result) > HANDLE_LARGE; /* if memory runs out now */
  handle->bloated = results_push_rows(L, &handle->answer) > HANDLE_LARGE || bloated;
  /* A SELECT whose result has no columns has created a table: SELECT INTO. */
  const bool created = PQresultStatus(handle->answer.result) == PGRES_COMMAND_OK &&
                       strncmp(PQcmdStatus(handle->answer.result), "SELECT", 6) == 0;
  lua_pushstring(L, created ? "CREATE TABLE AS" : PQcmdStatus(handle->answer.result));
  results_clear(&handle->answer);
  return 2;
}

/* handle:take_id() -> id of the job of send_job(), as digits when a number cannot hold it; or nil, message, code. */
static int handle_take_id(lua_State *L) {
  struct handle *handle = handle_check(L);
  struct pgq_error error;
  int failed = handle_push_absence(L, handle);
  if (failed)
    return failed;
  int64_t id = request_take_id(handle->conn, handle->answer.result, &error);
  results_clear(&handle->answer);
  if (id < 0)
    return handle_push_failure(L, &error);
  value_push_integer(L, id);
  return 1;
}

/* handle:clear(): frees a result that was not taken. */
static int handle_clear(lua_State *L) {
  results_clear(&handle_check(L)->answer);
  return 0;
}

void statement_init(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"advance", handle_advance},
      {"clear", handle_clear},
      {"finish", handle_finish},
      {"flush", handle_flush},
      {"nonblocking", handle_nonblocking},
      {"send", handle_send},
      {"send_job", handle_send_job},
      {"send_several", handle_send_several},
      {"take_id", handle_take_id},
      {"take_rows", handle_take_rows},
      {NULL, NULL},
  };
  handle_add_methods(L, methods);
}
