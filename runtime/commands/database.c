#include "database.h"

#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "clock.h"
#include "conninfo.h"

#define ATTEMPT_TIMEOUT_S "10"

enum { RETRY_MS = 250 };

static PGconn *try_once(const struct options *options, const char *application) {
  bool has_timeout;
  if (conninfo_inspect(options->db, &has_timeout) != 0)
    return NULL; /* never: main() has checked it */
  const char *const keywords[] = {"fallback_application_name", "connect_timeout", "dbname", "client_encoding", NULL};
  const char *const values[] = {application, has_timeout ? NULL : ATTEMPT_TIMEOUT_S, options->db, "UTF8", NULL};
  return PQconnectdbParams(keywords, values, 1);
}

static void ignore_notice(void *context, const char *message) {
  (void)context;
  (void)message;
}

PGconn *database_connect(const struct options *options) {
  return database_connect_as(options, "pgq-lua");
}

PGconn *database_connect_as(const struct options *options, const char *application) {
  int64_t until_ms = clock_ms() + options->connect_timeout_ms;
  PGconn *conn = try_once(options, application);
  while (PQstatus(conn) != CONNECTION_OK && clock_ms() + RETRY_MS < until_ms) {
    PQfinish(conn);
    nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000}, NULL);
    conn = try_once(options, application);
  }
  if (PQstatus(conn) != CONNECTION_OK) {
    fprintf(stderr, "pgq-lua: %s", PQerrorMessage(conn));
    PQfinish(conn);
    return NULL;
  }
  PQsetNoticeProcessor(conn, ignore_notice, NULL);
  return conn;
}
