#include "failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

/* Messages of libpq have several lines and tabs, for a terminal; those of pgq_error are one line, for a log. */
static void make_one_line(char *text) {
  char *out = text;
  for (const char *in = text; *in != '\0'; in++) {
    bool space = *in == '\n' || *in == '\t' || *in == '\r' || *in == ' ';
    if (!space)
      *out++ = *in;
    else if (out > text && out[-1] != ' ')
      *out++ = ' ';
  }
  while (out > text && out[-1] == ' ')
    out--;
  *out = '\0';
}

void failure_set(struct pgq_error *error, const char *sqlstate, const char *format, ...) {
  char raw[2 * PGQ_MESSAGE_SIZE];
  va_list arguments;
  if (error == NULL)
    return;
  va_start(arguments, format);
  vsnprintf(raw, sizeof raw, format, arguments);
  va_end(arguments);
  make_one_line(raw);
  text_clean(error->message, sizeof error->message, raw, strlen(raw));
  snprintf(error->sqlstate, sizeof error->sqlstate, "%s", sqlstate);
}

void failure_prefix(struct pgq_error *error, const char *format, ...) {
  char prefix[128], sqlstate[sizeof error->sqlstate], message[PGQ_MESSAGE_SIZE];
  va_list arguments;
  if (error == NULL)
    return;
  va_start(arguments, format);
  vsnprintf(prefix, sizeof prefix, format, arguments);
  va_end(arguments);
  memcpy(sqlstate, error->sqlstate, sizeof sqlstate);
  memcpy(message, error->message, sizeof message);
  failure_set(error, sqlstate, "%s%s", prefix, message);
}

void failure_from_result(struct pgq_error *error, const PGconn *conn, const PGresult *result) {
  const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (message == NULL)
    message = PQerrorMessage(conn);
  if (PQstatus(conn) == CONNECTION_BAD)
    failure_set(error, "08006", "the connection to the database broke: %s", message);
  else if (sqlstate != NULL)
    failure_set(error, sqlstate, "%s", message);
  else if (result == NULL)
    failure_set(error, "53200", "libpq returned no result: %s", message);
  else
    failure_set(error, "XX000", "%s", message);
}

int failure_check_connection(struct pgq_error *error, const PGconn *conn) {
  if (conn == NULL)
    failure_set(error, "08003", "the connection is NULL");
  else if (PQstatus(conn) != CONNECTION_OK)
    failure_set(error, "08006", "the connection to the database is broken or was never made");
  else if (PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
    failure_set(error, "55000", "the connection is in pipeline mode; leave it first");
  else if (PQtransactionStatus(conn) == PQTRANS_ACTIVE)
    failure_set(error, "55000", "the connection is still busy with another command; fetch all of its results first");
  else if (PQtransactionStatus(conn) == PQTRANS_INERROR)
    failure_set(error, "25P02", "the transaction on the connection has failed; roll it back first");
  else
    return 0;
  return -1;
}
