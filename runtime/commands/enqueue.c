#include "enqueue.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buffer.h"
#include "database.h"
#include "enqueue_lines.h"
#include "job_values.h"
#include "pgq.h"
#include "refusal.h"

static int enqueue_one(PGconn *conn, const char *queue, const struct buffer *data, const struct pgq_options *how) {
  struct pgq_error error;
  int64_t id = pgq_enqueue(conn, queue, data->bytes, data->length, how, &error);
  if (id < 0)
    return enqueue_failed(conn, &error, how, "");
  printf("%" PRId64 "\n", id);
  if (fflush(stdout) == 0)
    return 0;
  fprintf(stderr, "pgq-lua enqueue: job %" PRId64 " is enqueued, but its id could not be printed: %s\n", id,
          strerror(errno));
  return 1;
}

/* `data` is the data of the only job; NULL: each line of standard input is a job. */
static int enqueue(const struct options *options, const char *queue, const struct buffer *data,
                   const struct wait_list *waits) {
  struct pgq_options how = PGQ_OPTIONS_INIT;
  PGconn *conn = database_connect(options);
  if (!conn)
    return 1;
  how.after = options->after;
  how.delay_ms = options->delay_ms > 0 ? options->delay_ms : 0;
  how.retry_waits = (const char *const *)waits->texts;
  how.retry_wait_count = waits->count;
  how.no_retries = options->retry_waits && waits->count == 0;
  int status = data ? enqueue_one(conn, queue, data, &how) : enqueue_lines(conn, queue, &how);
  PQfinish(conn);
  return status;
}

/* Returns the problem with the words of the command, or NULL. */
static const char *find_misuse(const struct options *options, int argc) {
  if (argc < 1)
    return "the name of the queue is missing";
  if (argc > 2)
    return "there is an unexpected argument after DATA; quote data that contains spaces";
  if (argc == 2 && options->lines)
    return "--lines reads the data from standard input, so DATA must not be given";
  if (options->after && options->delay_ms > 0)
    return "--delay and --after exclude each other; give one of them";
  return NULL;
}

int enqueue_command(const struct options *options, int argc, char **argv) {
  struct buffer data = {0};
  struct wait_list waits = {0};
  int status = 2;
  const char *misuse = find_misuse(options, argc);
  if (misuse)
    refuse("enqueue", "enqueue [options] QUEUE [DATA | - | --lines]", "%s", misuse);
  else if (wait_list_read(&waits, options->retry_waits, "enqueue") == 0) {
    bool from_input = argc == 2 && strcmp(argv[1], "-") == 0;
    if (argc == 2 && !from_input)
      buffer_add(&data, argv[1], strlen(argv[1]));
    bool unreadable = from_input && data_read(&data, "-", "enqueue") != 0;
    status = unreadable ? 1 : enqueue(options, argv[0], options->lines ? NULL : &data, &waits);
  }
  wait_list_free(&waits);
  buffer_free(&data);
  return status;
}
