/* pgq.core: the part of the Lua module `pgq` that needs libpq. The Lua half in lua/pgq/ is its only caller, and checks
 * the arguments; here they are trusted as to their types. Failures are returned as nil, message, code. */

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

#include "conninfo.h"
#include "duration.h"
#include "failure.h"
#include "many.h"
#include "pgq.h"
#include "values.h"
#include "version.h"

#define HANDLE_TYPE "pgq.connection"
#define CONNECT_TIMEOUT_SECONDS "10"

__attribute__((visibility("default"))) int luaopen_pgq_core(lua_State *L);

struct handle {
  PGconn *conn; /* NULL once closed */
  bool busy;    /* a function of the user's runs in the middle of a call, and must not use the connection */
};

static int push_failure(lua_State *L, const struct pgq_error *error) {
  lua_pushnil(L);
  lua_pushstring(L, error->message);
  lua_pushstring(L, error->sqlstate);
  return 3;
}

static int fail(lua_State *L, const char *sqlstate, const char *message) {
  struct pgq_error error;
  failure_set(&error, sqlstate, "%s", message);
  return push_failure(L, &error);
}

/* ---- Connecting */

static void ignore_notice(void *unused, const char *message) {
  (void)unused;
  (void)message;
}

/* connect(conninfo) -> handle. An empty string leaves everything to libpq's environment variables and defaults. */
static int core_connect(lua_State *L) {
  size_t length;
  bool has_timeout;
  const char *conninfo = luaL_checklstring(L, 1, &length);
  if (strlen(conninfo) != length || conninfo_inspect(conninfo, &has_timeout) != 0)
    return fail(L, "22023", CONNINFO_HELP);
  /* In this order: the string overrides what stands before dbname, and is overridden by what stands behind. */
  const char *keywords[] = {"fallback_application_name", "connect_timeout", "dbname", "client_encoding", NULL};
  const char *values[] = {"pgq-lua", has_timeout ? NULL : CONNECT_TIMEOUT_SECONDS, conninfo, "UTF8", NULL};
  struct handle *handle = lua_newuserdata(L, sizeof *handle);
  *handle = (struct handle){0};
  luaL_setmetatable(L, HANDLE_TYPE);
  handle->conn = PQconnectdbParams(keywords, values, 1);
  if (PQstatus(handle->conn) != CONNECTION_OK) {
    struct pgq_error error;
    failure_set(&error, "08001", "cannot connect: %s", PQerrorMessage(handle->conn));
    PQfinish(handle->conn);
    handle->conn = NULL;
    return push_failure(L, &error);
  }
  PQsetNoticeProcessor(handle->conn, ignore_notice, NULL);
  return 1;
}

static struct handle *check_handle(lua_State *L) {
  return luaL_checkudata(L, 1, HANDLE_TYPE);
}

static int fail_closed(lua_State *L) {
  return fail(L, "08003", "the connection is closed");
}

/* handle:close(), also when the collector finds it. Closing twice does nothing. */
static int handle_close(lua_State *L) {
  struct handle *handle = check_handle(L);
  PQfinish(handle->conn);
  handle->conn = NULL;
  return 0;
}

/* handle:describe() -> text without secrets. */
static int handle_describe(lua_State *L) {
  const PGconn *conn = check_handle(L)->conn;
  if (conn == NULL)
    lua_pushliteral(L, "closed");
  else
    lua_pushfstring(L, "%s at %s:%s%s", PQdb(conn), PQhost(conn), PQport(conn),
                    PQstatus(conn) == CONNECTION_OK ? "" : ", broken");
  return 1;
}

/* handle:is_busy() -> boolean: whether the caller stands inside of another call on the handle. */
static int handle_is_busy(lua_State *L) {
  lua_pushboolean(L, check_handle(L)->busy);
  return 1;
}

/* handle:is_alive() -> boolean. Reads what the server has sent in the meantime, such as the news of its end. */
static int handle_is_alive(lua_State *L) {
  PGconn *conn = check_handle(L)->conn;
  PGnotify *notify;
  /* One round for the server's last words, one for the end of the stream behind them, and some to spare. */
  for (int round = 0; round < 4 && PQstatus(conn) == CONNECTION_OK; round++) {
    struct pollfd readable = {.fd = PQsocket(conn), .events = POLLIN};
    if (poll(&readable, 1, 0) <= 0)
      break;
    if (PQconsumeInput(conn))
      (void)PQisBusy(conn);
    while ((notify = PQnotifies(conn)) != NULL)
      PQfreemem(notify);
  }
  lua_pushboolean(L, PQstatus(conn) == CONNECTION_OK);
  return 1;
}

/* handle:transaction_state() -> "idle", "open", "failed", or "unknown" for a connection that is closed or broken. */
static int handle_transaction_state(lua_State *L) {
  switch (PQtransactionStatus(check_handle(L)->conn)) {
  case PQTRANS_IDLE:
    lua_pushliteral(L, "idle");
    break;
  case PQTRANS_INTRANS:
    lua_pushliteral(L, "open");
    break;
  case PQTRANS_INERROR:
    lua_pushliteral(L, "failed");
    break;
  default:
    lua_pushliteral(L, "unknown");
  }
  return 1;
}

/* ---- Statements */

static bool is_copy(const PGresult *result) {
  ExecStatusType status = PQresultStatus(result);
  return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/* Asks the server to end the running statement. That it cannot be asked shows in what follows. */
static void cancel(PGconn *conn) {
  char ignored[256];
  PGcancel *request = PQgetCancel(conn);
  if (request != NULL)
    (void)PQcancel(request, ignored, sizeof ignored);
  PQfreeCancel(request);
}

/* Leaves COPY, so that the connection can be used again. */
static void end_copy(PGconn *conn, ExecStatusType status) {
  char *row;
  PGresult *result;
  if (status == PGRES_COPY_OUT) {
    cancel(conn);
    while (PQgetCopyData(conn, &row, 0) > 0)
      PQfreemem(row);
  } else {
    (void)PQputCopyEnd(conn, "COPY is not supported");
  }
  while ((result = PQgetResult(conn)) != NULL) {
    bool again = is_copy(result);
    PQclear(result);
    if (again)
      break;
  }
}

/* handle:exec(sql, ...) -> rows. The values behind sql are its parameters $1, $2, … */
static int handle_exec(lua_State *L) {
  PGconn *conn = check_handle(L)->conn;
  size_t length;
  const char *sql = luaL_checklstring(L, 2, &length);
  struct parameters parameters;
  struct pgq_error error;
  if (conn == NULL)
    return fail_closed(L);
  if (PQstatus(conn) != CONNECTION_OK)
    return fail(L, "08006", "the connection to the database is broken");
  if (strlen(sql) != length)
    return fail(L, "22021", "the statement holds a NUL byte");
  if (values_read_parameters(L, 3, &parameters, &error) != 0)
    return push_failure(L, &error);
  struct result_holder *holder = values_new_holder(L);
  holder->result = PQexecParams(conn, sql, parameters.count, parameters.types, parameters.values, parameters.lengths,
                                parameters.formats, 0);
  if (is_copy(holder->result)) {
    end_copy(conn, PQresultStatus(holder->result));
    values_clear_holder(holder);
    return fail(L, "0A000", "COPY is not supported here");
  }
  switch (PQresultStatus(holder->result)) {
  case PGRES_TUPLES_OK:
  case PGRES_COMMAND_OK:
  case PGRES_EMPTY_QUERY:
    values_push_rows(L, holder);
    values_clear_holder(holder);
    return 1;
  default:
    failure_from_result(&error, conn, holder->result);
    values_clear_holder(holder);
    return push_failure(L, &error);
  }
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

/* The arguments (queue, what, after, delay_ms, waits) of which the last three may be nil. Returns 0, or what fail()
 * has pushed. */
static int read_enqueue_arguments(lua_State *L, const PGconn *conn, const char **queue, struct pgq_options *options) {
  size_t queue_length, after_length = 0;
  *queue = luaL_checklstring(L, 2, &queue_length);
  options->after = luaL_optlstring(L, 4, NULL, &after_length);
  options->delay_ms = (int64_t)luaL_optnumber(L, 5, 0);
  if (!lua_isnoneornil(L, 6))
    read_waits(L, 6, options);
  if (conn == NULL)
    return fail_closed(L);
  if (strlen(*queue) != queue_length)
    return fail(L, "22023", "the queue name holds a NUL byte");
  if (options->after != NULL && strlen(options->after) != after_length)
    return fail(L, "22023", "the earliest time to run holds a NUL byte");
  return 0;
}

/* handle:enqueue(queue, data, after, delay_ms, waits) -> id. The last three may be nil. */
static int handle_enqueue(lua_State *L) {
  PGconn *conn = check_handle(L)->conn;
  struct pgq_options options = PGQ_OPTIONS_INIT;
  struct pgq_error error;
  const char *queue;
  size_t data_length;
  const char *data = luaL_checklstring(L, 3, &data_length);
  int failed = read_enqueue_arguments(L, conn, &queue, &options);
  if (failed)
    return failed;
  int64_t id = pgq_enqueue(conn, queue, data, data_length, &options, &error);
  if (id < 0)
    return push_failure(L, &error);
  lua_pushnumber(L, (lua_Number)id);
  return 1;
}

/* handle:enqueue_many(queue, source, after, delay_ms, waits) -> list of ids; see many_enqueue() for the source. The
 * last three may be nil. */
static int handle_enqueue_many(lua_State *L) {
  struct handle *handle = check_handle(L);
  struct pgq_options options = PGQ_OPTIONS_INIT;
  const char *queue;
  int failed = read_enqueue_arguments(L, handle->conn, &queue, &options);
  return failed ? failed : many_enqueue(L, 3, handle->conn, queue, &options, &handle->busy);
}

/* ---- Times */

static int fail_value(lua_State *L, const char *problem) {
  lua_pushnil(L);
  lua_pushstring(L, problem);
  return 2;
}

/* duration(value) -> text in the form of Go, milliseconds; or nil, problem. A number, also as text, is seconds. */
static int core_duration(lua_State *L) {
  char text[DURATION_TEXT_SIZE];
  int64_t ms;
  if (lua_type(L, 1) == LUA_TNUMBER) {
    double seconds = lua_tonumber(L, 1);
    if (isnan(seconds))
      return fail_value(L, "is not a number");
    if (seconds < 0)
      return fail_value(L, "is negative");
    if (seconds > (double)DURATION_MAX_MS / 1000)
      return fail_value(L, "is too long");
    ms = (int64_t)floor(seconds * 1000 + 0.5);
  } else {
    const char *problem;
    size_t length;
    const char *value = luaL_checklstring(L, 1, &length);
    if (duration_parse_option(value, length, &ms, &problem) != 0)
      return fail_value(L, problem);
  }
  duration_format(ms, text);
  lua_pushstring(L, text);
  lua_pushnumber(L, (lua_Number)ms);
  return 2;
}

/* timestamp(unix seconds) -> text of a timestamptz; or nil, problem. */
static int core_timestamp(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  char text[64];
  if (!(seconds >= -62135596800.0 && seconds < 9224318016000.0)) /* the years 1 to 294276, Postgres' last; not NaN */
    return fail_value(L, "is out of range");
  time_t whole = (time_t)floor(seconds);
  long micros = lround((seconds - floor(seconds)) * 1e6);
  if (micros == 1000000) {
    whole++;
    micros = 0;
  }
  struct tm utc;
  gmtime_r(&whole, &utc);
  snprintf(text, sizeof text, "%04d-%02d-%02d %02d:%02d:%02d.%06ld+00", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
           utc.tm_hour, utc.tm_min, utc.tm_sec, micros);
  lua_pushstring(L, text);
  return 1;
}

/* sleep(ms): blocks. */
static int core_sleep(lua_State *L) {
  int64_t ms = (int64_t)luaL_checknumber(L, 1);
  struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR)
    ;
  return 0;
}

/* ---- The module */

static const luaL_Reg handle_methods[] = {
    {"close", handle_close},
    {"describe", handle_describe},
    {"enqueue", handle_enqueue},
    {"enqueue_many", handle_enqueue_many},
    {"exec", handle_exec},
    {"is_alive", handle_is_alive},
    {"is_busy", handle_is_busy},
    {"transaction_state", handle_transaction_state},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"bytea", values_bytea}, {"connect", core_connect},     {"duration", core_duration},
    {"sleep", core_sleep},   {"timestamp", core_timestamp}, {NULL, NULL},
};

int luaopen_pgq_core(lua_State *L) {
  values_init(L);
  many_init(L);
  luaL_newmetatable(L, HANDLE_TYPE);
  lua_pushcfunction(L, handle_close);
  lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  luaL_setfuncs(L, handle_methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_newtable(L);
  luaL_setfuncs(L, functions, 0);
  lua_pushliteral(L, PGQ_LUA_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}
