#include "handle.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cancel.h"
#include "conninfo.h"
#include "failure.h"

#define HANDLE_TYPE "pgq.connection"
#define KEEPALIVES_IDLE "10"
#define KEEPALIVES_INTERVAL "5"
#define KEEPALIVES_COUNT "3"
#define CONNECT_TIMEOUT_SECONDS "10"
#define CONNECT_TIMEOUT_MS "10000"

enum { CONNECT_TIMEOUT_SECONDS_DEFAULT = 10 };

/* ---- Failures */

int handle_push_failure(lua_State *L, const struct pgq_error *error) {
  if (*error->sqlstate == '\0') {
    lua_pushboolean(L, 0);
    lua_pushstring(L, error->message);
    return 2;
  }
  lua_pushnil(L);
  lua_pushstring(L, error->message);
  lua_pushstring(L, error->sqlstate);
  return 3;
}

int handle_fail(lua_State *L, const char *sqlstate, const char *message) {
  struct pgq_error error;
  failure_set(&error, sqlstate, "%s", message);
  return handle_push_failure(L, &error);
}

int handle_fail_closed(lua_State *L, const struct handle *handle) {
  const char *message = handle->closed_message;
  return handle_fail(L, "08003", message != NULL ? message : "the connection is closed");
}

int handle_push_absence(lua_State *L, struct handle *handle) {
  const char *code = handle->closed_code;
  handle->closed_code = NULL;
  if (code != NULL)
    return handle_fail(L, code, handle->closed_message);
  if (handle->conn == NULL)
    return handle_fail_closed(L, handle);
  return handle->copy == HANDLE_COPY_ENDED ? handle_fail(L, "0A000", "COPY is not supported here") : 0;
}

void handle_explain(struct handle *handle, struct pgq_error *error) {
  const char *sqlstate = PQresultErrorField(handle->answer.result, PG_DIAG_SQLSTATE);
  const char *function = PQresultErrorField(handle->answer.result, PG_DIAG_SOURCE_FUNCTION);
  failure_from_result(error, handle->conn, handle->answer.result);
  if (PQstatus(handle->conn) == CONNECTION_BAD &&
      strstr(PQerrorMessage(handle->conn), "cannot allocate memory") != NULL)
    failure_set(error, "53200", "not enough memory for the result; the connection was closed");
  /* An error of libpq's own without an SQLSTATE: libpq had no memory for the result. */
  if (sqlstate == NULL && strcmp(error->sqlstate, "XX000") == 0)
    memcpy(error->sqlstate, "53200", sizeof "53200");
  /* Recognised by the function in the server, since the message may be in any language. */
  if (strcmp(error->sqlstate, "42601") == 0 && function != NULL && strcmp(function, "exec_parse_message") == 0)
    failure_set(error, "42601", "there is more than one statement in the text; send them one by one");
}

/* ---- Connecting */

static void ignore_notice(void *unused, const char *message) {
  (void)unused;
  (void)message;
}

/* Pushes a new handle that connects: at once, or step by step. Returns the handle; or NULL when the connection string
 * cannot be read. */
static struct handle *push_handle(lua_State *L, bool in_steps) {
  size_t length;
  bool has_timeout;
  const char *conninfo = luaL_checklstring(L, 1, &length);
  if (strlen(conninfo) != length || conninfo_inspect(conninfo, &has_timeout) != 0)
    return NULL;
  /* The order matters: the connection string overrides what is listed before dbname, and is overridden by what is
   * listed after it. Keepalives detect a host that disappears while a statement runs; with the kernel's own settings
   * that would take two hours. */
  const char *keywords[] = {"fallback_application_name",
                            "connect_timeout",
                            "tcp_user_timeout",
                            "keepalives_idle",
                            "keepalives_interval",
                            "keepalives_count",
                            "dbname",
                            "client_encoding",
                            NULL};
  const char *values[] = {"pgq-lua",
                          has_timeout ? NULL : CONNECT_TIMEOUT_SECONDS,
                          in_steps ? CONNECT_TIMEOUT_MS : NULL,
                          KEEPALIVES_IDLE,
                          KEEPALIVES_INTERVAL,
                          KEEPALIVES_COUNT,
                          conninfo,
                          "UTF8",
                          NULL};
  struct handle *handle = lua_newuserdata(L, sizeof *handle);
  *handle = (struct handle){0};
  luaL_setmetatable(L, HANDLE_TYPE);
  handle->pid = getpid();
  if (in_steps)
    handle->connector = connector_start(keywords, values, CONNECT_TIMEOUT_SECONDS_DEFAULT * INT64_C(1000));
  else
    handle->conn = PQconnectdbParams(keywords, values, 1);
  return handle;
}

static int fail_to_connect(lua_State *L, struct handle *handle) {
  struct pgq_error error;
  const char *message = handle->connector ? connector_error(handle->connector)
                        : handle->conn    ? PQerrorMessage(handle->conn)
                                          : "";
  failure_set(&error, "08001", "cannot connect: %s", *message != '\0' ? message : "out of memory");
  handle_shut(handle, NULL, NULL);
  return handle_push_failure(L, &error);
}

/* The connection string cannot be read. */
static int fail_to_read(lua_State *L) {
  char message[CONNINFO_MESSAGE_SIZE];
  return handle_fail(L, "22023", conninfo_explain(lua_tostring(L, 1), message));
}

int handle_connect(lua_State *L) {
  struct handle *handle = push_handle(L, false);
  if (handle == NULL)
    return fail_to_read(L);
  if (PQstatus(handle->conn) != CONNECTION_OK)
    return fail_to_connect(L, handle);
  PQsetNoticeProcessor(handle->conn, ignore_notice, NULL);
  return 1;
}

int handle_connect_start(lua_State *L) {
  struct handle *handle = push_handle(L, true);
  if (handle == NULL)
    return fail_to_read(L);
  if (handle->connector == NULL)
    return fail_to_connect(L, handle);
  return 1;
}

static int push_progress(lua_State *L, struct handle *handle, enum connector_progress progress) {
  switch (progress) {
  case CONNECTOR_DONE:
    handle->conn = connector_take(handle->connector);
    connector_free(handle->connector);
    handle->connector = NULL;
    PQsetNoticeProcessor(handle->conn, ignore_notice, NULL);
    lua_pushinteger(L, HANDLE_DONE);
    return 1;
  case CONNECTOR_READ:
    lua_pushinteger(L, HANDLE_WAIT_READ);
    return 1;
  case CONNECTOR_WRITE:
    lua_pushinteger(L, HANDLE_WAIT_WRITE);
    return 1;
  default:
    return fail_to_connect(L, handle);
  }
}

/* handle:connect_step() -> what the attempt to connect waits for: 0 nothing, the connection is there; 1 that the
 * descriptor can be read; 2 that it can be written; or nil, message, code. The descriptor may be another one than
 * before. handle:connect_expire(): the same when the time is over. */
static int handle_connect_step(lua_State *L) {
  struct handle *handle = handle_check(L);
  if (handle->connector == NULL)
    return handle_fail_closed(L, handle);
  return push_progress(L, handle, connector_step(handle->connector));
}

static int handle_connect_expire(lua_State *L) {
  struct handle *handle = handle_check(L);
  if (handle->connector == NULL)
    return handle_fail_closed(L, handle);
  return push_progress(L, handle, connector_expire(handle->connector));
}

/* handle:connect_left() -> for how many milliseconds to wait for the descriptor; -1: without limit. */
static int handle_connect_left(lua_State *L) {
  const struct handle *handle = handle_check(L);
  lua_pushnumber(L, handle->connector ? (lua_Number)connector_left_ms(handle->connector) : -1);
  return 1;
}

/* ---- State */

struct handle *handle_check(lua_State *L) {
  struct handle *handle = luaL_checkudata(L, 1, HANDLE_TYPE);
  if (handle->conn != NULL && handle->pid != getpid())
    handle_shut(handle, NULL, "the connection belongs to the process that has forked this one");
  return handle;
}

/* Makes PQfinish() write to nothing. In a child it would end the session, which is the parent's. */
static void detach(struct handle *handle) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0)
    return;
  if (PQsocket(handle->conn) >= 0)
    dup3(null, PQsocket(handle->conn), O_CLOEXEC);
  close(null);
}

void handle_shut(struct handle *handle, const char *code, const char *message) {
  results_clear(&handle->answer);
  if (handle->conn == NULL && handle->connector == NULL)
    return;
  if (handle->conn != NULL && handle->pid != getpid())
    detach(handle);
  PQfinish(handle->conn);
  connector_free(handle->connector);
  *handle = (struct handle){.closed_message = message, .closed_code = code};
}

/* handle:close(), also called when the handle is collected. Closing twice does nothing. */
static int handle_close(lua_State *L) {
  handle_shut(handle_check(L), NULL, NULL);
  return 0;
}

/* handle:abandon(): closes the connection whatever state it is in; a statement that runs is cancelled. */
static int handle_abandon(lua_State *L) {
  struct handle *handle = handle_check(L);
  if (PQtransactionStatus(handle->conn) == PQTRANS_ACTIVE)
    cancel_detached(handle->conn);
  handle_shut(handle, NULL, "the connection is closed: a call on it was interrupted");
  return 0;
}

/* handle:describe() -> text for messages, which contains no password. */
static int handle_describe(lua_State *L) {
  const PGconn *conn = handle_check(L)->conn;
  if (conn == NULL)
    lua_pushliteral(L, "closed");
  else
    lua_pushfstring(L, "%s at %s:%s%s", PQdb(conn), PQhost(conn), PQport(conn),
                    PQstatus(conn) == CONNECTION_OK ? "" : ", broken");
  return 1;
}

/* handle:server_pid() -> number of the server's process, as it or a pooler has told the client; 0 if there is none. */
static int handle_server_pid(lua_State *L) {
  lua_pushinteger(L, PQbackendPID(handle_check(L)->conn));
  return 1;
}

/* handle:server_version() -> 170002 for 17.2; 0 if the connection is closed. */
static int handle_server_version(lua_State *L) {
  lua_pushinteger(L, PQserverVersion(handle_check(L)->conn));
  return 1;
}

/* handle:fd() -> descriptor of the socket, or what connecting waits for; -1 if there is none. */
static int handle_fd(lua_State *L) {
  const struct handle *handle = handle_check(L);
  lua_pushinteger(L, handle->connector ? connector_fd(handle->connector) : PQsocket(handle->conn));
  return 1;
}

/* handle:is_bloated() -> boolean: whether libpq keeps much memory because of a large row or parameter in the past. */
static int handle_is_bloated(lua_State *L) {
  lua_pushboolean(L, handle_check(L)->bloated);
  return 1;
}

/* handle:is_alive() -> boolean. First reads what the server has sent meanwhile, such as the message that it shuts down.
 */
static int handle_is_alive(lua_State *L) {
  PGconn *conn = handle_check(L)->conn;
  PGnotify *notify;
  /* One round reads the server's last message, one the end of the stream; two more do no harm. */
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

/* handle:transaction_state() -> "idle"; "open" or "failed" in a transaction; "busy" while a statement runs; "unknown"
 * if the connection is closed or broken. */
static int handle_transaction_state(lua_State *L) {
  static const char *const names[] = {[PQTRANS_IDLE] = "idle",
                                      [PQTRANS_ACTIVE] = "busy",
                                      [PQTRANS_INTRANS] = "open",
                                      [PQTRANS_INERROR] = "failed",
                                      [PQTRANS_UNKNOWN] = "unknown"};
  lua_pushstring(L, names[PQtransactionStatus(handle_check(L)->conn)]);
  return 1;
}

void handle_add_methods(lua_State *L, const luaL_Reg *methods) {
  luaL_getmetatable(L, HANDLE_TYPE);
  lua_getfield(L, -1, "__index");
  luaL_setfuncs(L, methods, 0);
  lua_pop(L, 2);
}

void handle_init(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"abandon", handle_abandon},
      {"close", handle_close},
      {"connect_expire", handle_connect_expire},
      {"connect_left", handle_connect_left},
      {"connect_step", handle_connect_step},
      {"describe", handle_describe},
      {"fd", handle_fd},
      {"is_alive", handle_is_alive},
      {"is_bloated", handle_is_bloated},
      {"server_pid", handle_server_pid},
      {"server_version", handle_server_version},
      {"transaction_state", handle_transaction_state},
      {NULL, NULL},
  };
  luaL_newmetatable(L, HANDLE_TYPE);
  lua_pushcfunction(L, handle_close);
  lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  handle_add_methods(L, methods);
}
