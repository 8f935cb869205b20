/* Enqueues a greeting for hello.lua. Without arguments, libpq's PG* variables name the database.
 * Build:    cc -o enqueue examples/enqueue.c $(pkg-config --cflags --libs pgq)
 * Run:      ./enqueue "$(pgq-lua dev conninfo)" Ann
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <pgq.h>

int main(int argc, char **argv) {
  const char *name = argc > 2 ? argv[2] : "C";
  PGconn *conn = PQconnectdb(argc > 1 ? argv[1] : "");
  if (PQstatus(conn) != CONNECTION_OK) {
    fprintf(stderr, "%s", PQerrorMessage(conn));
    PQfinish(conn);
    return 1;
  }

  /* The job has two retries. For a job without options, pass NULL instead of &options. */
  const char *waits[] = {"5s", "1m"};
  struct pgq_options options = PGQ_OPTIONS_INIT;
  options.retry_waits = waits;
  options.retry_wait_count = 2;

  /* The connection is your own: between BEGIN and COMMIT, the job is part of your transaction. */
  struct pgq_error error;
  int64_t id = pgq_enqueue(conn, "hello", name, strlen(name), &options, &error);
  if (id < 0)
    fprintf(stderr, "cannot enqueue: %s (%s)\n", error.message, error.sqlstate);
  else
    printf("enqueued job %" PRId64 "\n", id);
  PQfinish(conn);
  return id < 0;
}
