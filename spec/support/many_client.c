/* Calls pgq_enqueue_many or pgq_enqueue_stream as the command line says, and prints its result. Compiled as C and as
 * C++ by enqueue_many_c_spec.lua.
 *
 *     many_client CONNINFO [NAME=VALUE]…
 *
 * The jobs are the numbers from 1 to `count`, as text; `big` and `bad` (INDEX:LENGTH) make one of them so long, with or
 * without data. `form` is `array` or `stream`. `stop`, `touch` and `refuse` are what the callbacks of a stream do
 * wrong, and after how many jobs: the source ends the call, or uses the connection; the taker of ids ends the call.
 * `pause` lets the source stop to print "paused" and wait for a line on stdin. `queue`, `delay_ms`, `after` and `wait`
 * are arguments of the call, `null` leaves out ids and error. `sql` runs a statement before the call, `then` after it;
 * `nonblocking` is a connection's mode. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pgq.h>

struct call {
  PGconn *conn;
  const char *queue, *form, *then, *wait;
  int64_t count, stop, touch, refuse, pause;
  int quiet;
  struct pgq_options options;
  struct pgq_job special; /* the job that is not a number */
  int64_t special_index;

  char number[24]; /* of the source */
  int64_t given, taken, first, last;
  int ascending;
};

static void run(PGconn *conn, const char *sql) {
  PGresult *result = PQexec(conn, sql);
  const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  if (PQresultStatus(result) == PGRES_FATAL_ERROR)
    printf("sql: %s\n", sqlstate != NULL ? sqlstate : "none");
  PQclear(result);
}

static void pause_here(void) {
  printf("paused\n");
  fflush(stdout);
  while (getchar() != '\n')
    ;
}

static int next_job(void *context, struct pgq_job *job) {
  struct call *call = (struct call *)context;
  if (call->stop > 0 && call->given == call->stop)
    return -5;
  if (call->touch > 0 && call->given == call->touch)
    PQclear(PQexec(call->conn, "COMMIT"));
  if (call->pause > 0 && call->given == call->pause)
    pause_here();
  if (call->given == call->count)
    return 0;
  call->given++;
  job->length = (size_t)snprintf(call->number, sizeof call->number, "%" PRId64, call->given);
  job->data = call->number;
  if (call->given == call->special_index)
    *job = call->special;
  return 1;
}

static int take_ids(void *context, const int64_t *ids, size_t count) {
  struct call *call = (struct call *)context;
  for (size_t i = 0; i < count; i++) {
    call->ascending &= ids[i] > call->last;
    call->last = ids[i];
    if (call->taken++ == 0)
      call->first = ids[i];
  }
  return call->refuse > 0 && call->taken >= call->refuse ? 7 : 0;
}

/* The jobs of next_job(), all at once. */
static int64_t enqueue_array(struct call *call, struct pgq_error *error) {
  size_t count = (size_t)call->count;
  struct pgq_job *jobs = (struct pgq_job *)calloc(count + 1, sizeof *jobs);
  char *texts = (char *)calloc(count + 1, sizeof call->number);
  int64_t *ids = (int64_t *)calloc(count + 1, sizeof *ids);
  for (size_t i = 0; i < count; i++) {
    next_job(call, &jobs[i]);
    if (jobs[i].data == call->number)
      jobs[i].data = memcpy(texts + i * sizeof call->number, call->number, sizeof call->number);
  }
  int status = pgq_enqueue_many(call->conn, call->queue, jobs, count, call->quiet ? NULL : ids, &call->options, error);
  if (status == 0 && !call->quiet)
    take_ids(call, ids, count);
  free(jobs);
  free(texts);
  free(ids);
  return status;
}

static void set_special(struct call *call, const char *value, int has_data) {
  call->special_index = strtoll(value, NULL, 10);
  call->special.length = strtoul(strchr(value, ':') + 1, NULL, 10);
  if (has_data)
    call->special.data = calloc(call->special.length, 1);
}

static void set(struct call *call, const char *name, const char *value) {
  struct {
    const char *name;
    int64_t *number;
  } numbers[] = {{"count", &call->count},   {"stop", &call->stop},   {"touch", &call->touch},
                 {"refuse", &call->refuse}, {"pause", &call->pause}, {"delay_ms", &call->options.delay_ms}};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    if (strcmp(name, numbers[i].name) == 0) {
      *numbers[i].number = strtoll(value, NULL, 10);
      return;
    }
  if (strcmp(name, "sql") == 0) {
    run(call->conn, value);
  } else if (strcmp(name, "nonblocking") == 0) {
    PQsetnonblocking(call->conn, 1);
  } else if (strcmp(name, "queue") == 0) {
    call->queue = value;
  } else if (strcmp(name, "form") == 0) {
    call->form = value;
  } else if (strcmp(name, "then") == 0) {
    call->then = value;
  } else if (strcmp(name, "after") == 0) {
    call->options.after = value;
  } else if (strcmp(name, "wait") == 0) {
    call->wait = value;
    call->options.retry_waits = &call->wait;
    call->options.retry_wait_count = 1;
  } else if (strcmp(name, "big") == 0 || strcmp(name, "bad") == 0) {
    set_special(call, value, strcmp(name, "big") == 0);
  } else if (strcmp(name, "null") == 0) {
    call->quiet = 1;
  } else {
    fprintf(stderr, "unknown argument %s\n", name);
    exit(2);
  }
}

int main(int argc, char **argv) {
  struct call call;
  struct pgq_error error;
  memset(&call, 0, sizeof call);
  memset(&error, 'E', sizeof error);
  call.conn = strcmp(argv[1], "NULL") == 0 ? NULL : PQconnectdb(argv[1]);
  call.queue = "q";
  call.form = "stream";
  call.ascending = 1;
  for (int i = 2; i < argc; i++) {
    char *value = strchr(argv[i], '=');
    *value = '\0';
    set(&call, argv[i], value + 1);
  }
  struct pgq_error *where = call.quiet ? NULL : &error;
  int64_t outcome = strcmp(call.form, "array") == 0
                        ? enqueue_array(&call, where)
                        : pgq_enqueue_stream(call.conn, call.queue, next_job, call.quiet ? NULL : take_ids, &call,
                                             &call.options, where);
  if (call.quiet)
    printf("%" PRId64 "\n", outcome);
  else
    printf("%" PRId64 " %s %s\n", outcome, error.sqlstate, error.message);
  printf("ids: %" PRId64 " from %" PRId64 " to %" PRId64 "%s\n", call.taken, call.first, call.last,
         call.ascending ? "" : ", not ascending");
  printf("transaction: %d, nonblocking: %d\n", call.conn ? (int)PQtransactionStatus(call.conn) : -1,
         call.conn ? PQisnonblocking(call.conn) : -1);
  if (call.then != NULL)
    run(call.conn, call.then);
  PQfinish(call.conn);
  free((void *)call.special.data);
  return 0;
}
