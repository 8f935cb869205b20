#include "preparing.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"

/* ---- Sending */

static enum sent say(int sent, enum sent how) {
  return sent == 1 ? how : SENT_FAILED;
}

static enum sent prepare(struct handle *handle, const struct prepared_statement *statement) {
  const struct prepared_key *key = &statement->key;
  if (PQsendPrepare(handle->conn, prepared_name(statement).text, key->sql, key->count, key->types) == 1)
    return SENT_PREPARING;
  prepared_drop_last(handle->prepared);
  return SENT_FAILED;
}

enum sent preparing_send(struct handle *handle, const char *sql, const struct parameters *p, bool always) {
  PGconn *conn = handle->conn;
  struct prepared *prepared = handle->prepared;
  handle->seen = 0;
  if (prepared != NULL) {
    struct prepared_key key = prepared_key(sql, p->count, p->types);
    struct prepared_statement *statement = prepared_find(prepared, &key);
    if (statement != NULL)
      return say(
          PQsendQueryPrepared(conn, prepared_name(statement).text, p->count, p->values, p->lengths, p->formats, 0),
          SENT_PREPARED);
    if ((always || prepared_has_seen(prepared, key.hash)) && PQtransactionStatus(conn) != PQTRANS_INERROR &&
        prepared_may(sql) && (statement = prepared_add(prepared, &key)) != NULL)
      return prepare(handle, statement);
    handle->seen = key.hash;
  }
  return say(PQsendQueryParams(conn, sql, p->count, p->types, p->values, p->lengths, p->formats, 0), SENT_PLAIN);
}

void preparing_see(struct handle *handle) {
  static const char *const tags[] = {"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"};
  const char *tag = PQcmdStatus(handle->answer.result);
  for (size_t i = 0; handle->prepared != NULL && handle->seen != 0 && i < sizeof tags / sizeof *tags; i++)
    if (strncmp(tag, tags[i], strlen(tags[i])) == 0)
      prepared_see(handle->prepared, handle->seen);
}

/* ---- Methods */

/* handle:prepares(): statements that are run again are prepared from now on. */
static int handle_prepares(lua_State *L) {
  struct handle *handle = handle_check(L);
  if (handle->conn != NULL && handle->prepared == NULL)
    handle->prepared = calloc(1, sizeof *handle->prepared);
  return 0;
}

/* handle:forget(): what was prepared is not used any more. */
static int handle_forget(lua_State *L) {
  struct handle *handle = handle_check(L);
  if (handle->prepared != NULL)
    prepared_forget(handle->prepared);
  return 0;
}

/* handle:is_stuffed() -> whether there is no room for preparing more, though there might be. */
static int handle_is_stuffed(lua_State *L) {
  const struct handle *handle = handle_check(L);
  lua_pushboolean(L, handle->prepared != NULL && prepared_is_stuffed(handle->prepared));
  return 1;
}

/* handle:take_prepared() -> true; or nil, message, code. */
static int handle_take_prepared(lua_State *L) {
  struct handle *handle = handle_check(L);
  struct pgq_error error;
  int failed = statement_push_absence(L, handle);
  if (failed)
    return failed;
  const bool success = PQresultStatus(handle->answer.result) == PGRES_COMMAND_OK;
  if (!success) {
    statement_explain(handle, &error);
    prepared_drop_last(handle->prepared);
  }
  results_clear(&handle->answer);
  if (!success)
    return handle_push_failure(L, &error);
  lua_pushboolean(L, 1);
  return 1;
}

/* handle:is_stale() -> whether the result, of a statement that was prepared, says that it can no longer be used. */
static int handle_is_stale(lua_State *L) {
  const PGresult *result = handle_check(L)->answer.result;
  const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);
  lua_pushboolean(L, sqlstate != NULL && function != NULL &&
                         ((strcmp(sqlstate, "26000") == 0 && strcmp(function, "FetchPreparedStatement") == 0) ||
                          (strcmp(sqlstate, "0A000") == 0 && strcmp(function, "RevalidateCachedQuery") == 0)));
  return 1;
}

void preparing_add_methods(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"forget", handle_forget},     {"is_stale", handle_is_stale},           {"is_stuffed", handle_is_stuffed},
      {"prepares", handle_prepares}, {"take_prepared", handle_take_prepared}, {NULL, NULL},
  };
  luaL_setfuncs(L, methods, 0);
}
