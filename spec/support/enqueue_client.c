/* Calls pgq_enqueue as the command line says, and prints its result. Compiled as C and as C++ by enqueue_c_spec.lua.
 *
 *     enqueue_client CONNINFO [NAME=VALUE]…
 *
 * In the order of the arguments: `sql` runs a statement before the call and `send` only sends one; `pipeline` enters
 * pipeline mode; `queue`, `data`, `hex` (data as hexadecimal), `size` (data of so many bytes), `null` (data NULL of so
 * many bytes), `after`, `delay_ms`, `wait` (once for each, or wait=NULL), `no_retries`, `waits_null` and `quiet` (no
 * struct pgq_error) are the arguments of the call. `then` runs a statement after it. CONNINFO "NULL" is no connection.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pgq.h>

struct call {
  const char *queue;
  char *data;
  size_t length;
  struct pgq_options options;
  const char *waits[16];
  const char *then;
  int quiet;
};

static void run(PGconn *conn, const char *sql) {
  PGresult *result = PQexec(conn, sql);
  if (PQresultStatus(result) == PGRES_FATAL_ERROR) {
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    printf("sql: %s\n", sqlstate != NULL ? sqlstate : "none");
  }
  PQclear(result);
}

static void set_data(struct call *call, size_t length) {
  free(call->data);
  call->data = (char *)malloc(length + 1);
  call->length = length;
  if (call->data != NULL)
    memset(call->data, 'x', length);
}

static void set_hex(struct call *call, const char *hex) {
  set_data(call, strlen(hex) / 2);
  for (size_t i = 0; i < call->length; i++) {
    char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
    call->data[i] = (char)strtoul(digits, NULL, 16);
  }
}

static void set(struct call *call, PGconn *conn, const char *name, const char *value) {
  struct pgq_options *options = &call->options;
  if (strcmp(name, "sql") == 0) {
    run(conn, value);
  } else if (strcmp(name, "send") == 0) {
    PQsendQuery(conn, value);
  } else if (strcmp(name, "pipeline") == 0) {
    PQenterPipelineMode(conn);
  } else if (strcmp(name, "queue") == 0) {
    call->queue = strcmp(value, "NULL") == 0 ? NULL : value;
  } else if (strcmp(name, "data") == 0) {
    set_data(call, strlen(value));
    memcpy(call->data, value, call->length);
  } else if (strcmp(name, "hex") == 0) {
    set_hex(call, value);
  } else if (strcmp(name, "size") == 0) {
    set_data(call, strtoul(value, NULL, 10));
  } else if (strcmp(name, "null") == 0) {
    free(call->data);
    call->data = NULL;
    call->length = strtoul(value, NULL, 10);
  } else if (strcmp(name, "after") == 0) {
    options->after = value;
  } else if (strcmp(name, "delay_ms") == 0) {
    options->delay_ms = strtoll(value, NULL, 10);
  } else if (strcmp(name, "wait") == 0) {
    call->waits[options->retry_wait_count++] = strcmp(value, "NULL") == 0 ? NULL : value;
    options->retry_waits = call->waits;
  } else if (strcmp(name, "waits_null") == 0) {
    options->retry_wait_count = 1;
  } else if (strcmp(name, "no_retries") == 0) {
    options->no_retries = true;
  } else if (strcmp(name, "then") == 0) {
    call->then = value;
  } else if (strcmp(name, "quiet") == 0) {
    call->quiet = 1;
  } else {
    fprintf(stderr, "unknown argument %s\n", name);
    exit(2);
  }
}

int main(int argc, char **argv) {
  struct pgq_options defaults = PGQ_OPTIONS_INIT;
  struct pgq_error error;
  struct call call;
  PGconn *conn = strcmp(argv[1], "NULL") == 0 ? NULL : PQconnectdb(argv[1]);
  memset(&call, 0, sizeof call);
  call.queue = "q";
  call.options = defaults;
  set_data(&call, 1);
  for (int i = 2; i < argc; i++) {
    char *value = strchr(argv[i], '=');
    *value = '\0';
    set(&call, conn, argv[i], value + 1);
  }
  memset(&error, 'E', sizeof error);
  int64_t id = pgq_enqueue(conn, call.queue, call.data, call.length, argc == 2 ? NULL : &call.options,
                           call.quiet ? NULL : &error);
  if (call.quiet)
    printf("%" PRId64 "\n", id);
  else
    printf("%" PRId64 " %s %s\n", id, error.sqlstate, error.message);
  if (call.then != NULL)
    run(conn, call.then);
  PQfinish(conn);
  free(call.data);
  return 0;
}
