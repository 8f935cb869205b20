#include "prepared.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

/* Statements on a connection that are prepared, and that have run once. */
enum { PREPARED_MAX = 50, REPEATABLE_MAX = 50 };

/* Longer texts are rarely repeated. */
enum { SQL_MAX = 4096 };

/*
 * The environment of the handle's userdata is a table. By the key of a statement it has the number in the name of the
 * prepared statement, or REPEATABLE for a statement that has run once. LAST is the key of the statement sent last, if
 * that is not prepared yet.
 */
enum { LAST = 1, REPEATABLE = 0, UNKNOWN = -1 };

struct name {
  char text[32];
};

static struct name name_of(unsigned number) {
  struct name name;
  snprintf(name.text, sizeof name.text, "pgq-lua %u", number);
  return name;
}

void prepared_push_fixed_key(lua_State *L, const char *sql) {
  lua_pushlstring(L, sql, strlen(sql) + 1);
}

/* Pushes the text of the statement, a NUL, and the types of the parameters; without the types if they are the same each
 * time. */
static void push_key(lua_State *L, const char *sql, const struct parameters *p, bool same_types) {
  prepared_push_fixed_key(L, sql);
  if (p->count > 0 && !same_types) {
    lua_pushlstring(L, (const char *)p->types, (size_t)p->count * sizeof *p->types);
    lua_concat(L, 2);
  }
}

/* Pushes the table and the key. Returns the number of the prepared statement, REPEATABLE or UNKNOWN. */
static int find(lua_State *L, const char *sql, const struct parameters *p, bool same_types) {
  lua_getfenv(L, 1);
  push_key(L, sql, p, same_types);
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  int number = lua_isnil(L, -1) ? UNKNOWN : (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  return number;
}

/* A quote, or a dollar sign that does not begin a parameter. */
static bool has_literal(const char *sql) {
  for (; *sql != '\0'; sql++)
    if (*sql == '\'' || (*sql == '$' && !isdigit((unsigned char)sql[1])))
      return true;
  return false;
}

/* Converts the result of libpq's functions that send something. */
static enum sent sent_as(int libpq_status, enum sent how) {
  return libpq_status == 1 ? how : SENT_FAILED;
}

enum sent prepared_send(lua_State *L, struct handle *handle, const char *sql, const struct parameters *p, bool always) {
  PGconn *conn = handle->conn;
  if (handle->prepares && !always && strlen(sql) > SQL_MAX) { /* it is never prepared, and must not be kept as a key */
    lua_getfenv(L, 1);
    lua_pushnil(L);
    lua_rawseti(L, -2, LAST);
  } else if (handle->prepares) {
    int number = find(L, sql, p, always);
    if (number > 0) {
      struct name name = name_of((unsigned)number);
      lua_pushnil(L);
      lua_rawseti(L, -3, LAST);
      return sent_as(PQsendQueryPrepared(conn, name.text, p->count, p->values, p->lengths, p->formats, 0),
                     SENT_PREPARED);
    }
    lua_rawseti(L, -2, LAST);
    if ((always || number == REPEATABLE) && handle->prepared_count < PREPARED_MAX &&
        PQtransactionStatus(conn) != PQTRANS_INERROR) {
      struct name name = name_of(++handle->prepared_number);
      return sent_as(PQsendPrepare(conn, name.text, sql, p->count, p->types), SENT_PREPARE);
    }
  }
  return sent_as(PQsendQueryParams(conn, sql, p->count, p->types, p->values, p->lengths, p->formats, 0), SENT_WHOLE);
}

/* Removes the statements that have run once from the table on top of the stack. */
static void drop_repeatable(lua_State *L, struct handle *handle) {
  for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
    if (lua_type(L, -1) != LUA_TNUMBER || lua_tointeger(L, -1) != REPEATABLE)
      continue;
    lua_pushvalue(L, -2);
    lua_pushnil(L);
    lua_rawset(L, -5);
  }
  handle->repeatable_count = 0;
}

void prepared_note_success(lua_State *L, struct handle *handle, const char *tag) {
  static const char *const tags[] = {"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"};
  bool repeatable = false;
  if (!handle->prepares || handle->prepared_count == PREPARED_MAX)
    return;
  for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
    repeatable = repeatable || strncmp(tag, tags[i], strlen(tags[i])) == 0;
  lua_getfenv(L, 1);
  if (repeatable && handle->repeatable_count == REPEATABLE_MAX)
    drop_repeatable(L, handle);
  lua_rawgeti(L, -1, LAST);
  const char *sql = lua_tostring(L, -1); /* the key begins with it; NULL: the statement was prepared */
  if (repeatable && sql != NULL && !has_literal(sql)) {
    lua_pushinteger(L, REPEATABLE);
    lua_rawset(L, -3);
    handle->repeatable_count++;
  } else {
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* ---- Methods */

/* handle:forget_prepared(): the statements that were prepared are not used any more. The server may still have them. */
static int handle_forget_prepared(lua_State *L) {
  struct handle *handle = handle_check(L);
  lua_createtable(L, 1, 0); /* there is room for LAST, so that setting it allocates nothing */
  lua_setfenv(L, 1);
  handle->prepared_count = handle->repeatable_count = 0;
  return 0;
}

/* handle:enable_preparing(): statements that are repeated are prepared from now on. */
static int handle_enable_preparing(lua_State *L) {
  struct handle *handle = handle_check(L);
  (void)handle_forget_prepared(L);
  handle->prepares = handle->conn != NULL;
  return 0;
}

/* handle:take_prepared() -> true when the server has prepared the statement; or nil, message, code. */
static int handle_take_prepared(lua_State *L) {
  struct handle *handle = handle_check(L);
  struct pgq_error error;
  int failed = handle_push_absence(L, handle);
  if (failed)
    return failed;
  if (PQresultStatus(handle->answer.result) != PGRES_COMMAND_OK) {
    handle_explain(handle, &error);
    results_clear(&handle->answer);
    return handle_push_failure(L, &error);
  }
  results_clear(&handle->answer);
  lua_getfenv(L, 1);
  lua_rawgeti(L, -1, LAST);
  lua_pushinteger(L, (lua_Integer)handle->prepared_number);
  lua_rawset(L, -3);
  handle->prepared_count++;
  lua_pushboolean(L, 1);
  return 1;
}

/* Errors with which the analysis of a statement ends that was prepared before its tables were altered: the types of its
 * parameters or its result were right then. They may also come from within the statement: then it fails once more. */
static bool is_of_analysis(const char *sqlstate) {
  static const char *const states[] = {"42703", "42P01", "42883", "42704", "42804", "42846", "42P18", "3F000", "XX000"};
  for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
    if (strcmp(sqlstate, states[i]) == 0)
      return true;
  return false;
}

/* handle:is_stale() -> whether the result, which must be that of a prepared statement, is the error that the statement
 * must be prepared anew: the server does not have it (26000), the columns of its result have changed (0A000), or it may
 * no longer fit its tables. */
static int handle_is_stale(lua_State *L) {
  const PGresult *result = handle_check(L)->answer.result;
  const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);
  lua_pushboolean(L, sqlstate != NULL && function != NULL &&
                         ((strcmp(sqlstate, "26000") == 0 && strcmp(function, "FetchPreparedStatement") == 0) ||
                          (strcmp(sqlstate, "0A000") == 0 && strcmp(function, "RevalidateCachedQuery") == 0) ||
                          is_of_analysis(sqlstate)));
  return 1;
}

void prepared_init(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"enable_preparing", handle_enable_preparing},
      {"forget_prepared", handle_forget_prepared},
      {"is_stale", handle_is_stale},
      {"take_prepared", handle_take_prepared},
      {NULL, NULL},
  };
  handle_add_methods(L, methods);
}
