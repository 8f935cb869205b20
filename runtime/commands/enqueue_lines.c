#include "enqueue_lines.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lines.h"
#include "progress.h"
#include "transaction.h"

enum { COPY_SIZE = 1 << 16 };

struct command {
  struct lines lines;
  struct progress progress;
  FILE *ids;         /* the ids, as they will be printed; a file, since there may be any number of them */
  char problem[256]; /* why a callback has ended the call; "": none has */
};

static int next_line(void *context, struct pgq_job *job) {
  struct command *command = context;
  struct lines *lines = &command->lines;
  enum lines_result result = lines_next(lines, &job->data, &job->length);
  progress_update(&command->progress, lines->count, lines->bytes);
  switch (result) {
  case LINES_LINE:
    return 1;
  case LINES_END:
    return 0;
  case LINES_TOO_LONG:
    snprintf(command->problem, sizeof command->problem,
             "line %" PRId64 " has more than %zu bytes, the limit of a job's data", lines->count + 1, lines->longest);
    return -1;
  default:
    snprintf(command->problem, sizeof command->problem, "cannot read standard input: %s", strerror(errno));
    return -1;
  }
}

static int keep_ids(void *context, const int64_t *ids, size_t count) {
  struct command *command = context;
  for (size_t i = 0; i < count; i++)
    if (fprintf(command->ids, "%" PRId64 "\n", ids[i]) < 0) {
      snprintf(command->problem, sizeof command->problem, "cannot write the ids to a temporary file: %s",
               strerror(errno));
      return -1;
    }
  return 0;
}

static int print_ids(FILE *ids) {
  char buffer[COPY_SIZE];
  size_t length;
  if (fflush(ids) != 0 || fseek(ids, 0, SEEK_SET) != 0)
    return -1;
  while ((length = fread(buffer, 1, sizeof buffer, ids)) > 0)
    if (fwrite(buffer, 1, length, stdout) != length)
      return -1;
  return ferror(ids) || fflush(stdout) != 0 ? -1 : 0;
}

/* Returns whether it could say which privileges are missing. */
static bool explain_denial(PGconn *conn, const struct pgq_error *error, const char *consequence) {
  char denied[sizeof error->message + 64];
  struct transaction transaction = {
      .conn = conn,
      .command = "enqueue",
      .needs = "{pgq_jobs INSERT queue_name,pgq_jobs INSERT data,pgq_jobs INSERT run_after,pgq_jobs INSERT retry_waits,"
               "pgq_jobs SELECT id}"};
  snprintf(denied, sizeof denied, "%s%s", error->message, consequence);
  transaction_rollback(&transaction);
  return transaction_explain_denial(&transaction, denied);
}

int enqueue_failed(PGconn *conn, const struct pgq_error *error, const struct pgq_options *how,
                   const char *consequence) {
  bool bad_time = how->after && transaction_is_time_error(error->sqlstate);
  if (strcmp(error->sqlstate, "42501") == 0 && explain_denial(conn, error, consequence))
    return 1;
  if (bad_time)
    fprintf(stderr, "pgq-lua enqueue: --after: '%.100s' is not a time: %s; write %s\n", how->after, error->message,
            TRANSACTION_TIME_HELP);
  else
    fprintf(stderr, "pgq-lua enqueue: %s%s\n", error->message, consequence);
  return bad_time ? 2 : 1;
}

static int run(struct command *command, PGconn *conn, const char *queue, const struct pgq_options *options) {
  struct pgq_error error;
  struct lines *lines = &command->lines;
  progress_begin(&command->progress, lines->fd);
  int64_t count = pgq_enqueue_stream(conn, queue, next_line, keep_ids, command, options, &error);
  if (count < 0) {
    progress_leave(&command->progress);
    if (*command->problem)
      snprintf(error.message, sizeof error.message, "%s", command->problem);
    return enqueue_failed(conn, &error, options, strcmp(error.sqlstate, "08007") == 0 ? "" : "; nothing is enqueued");
  }
  progress_done(&command->progress, lines->count, lines->bytes);
  if (print_ids(command->ids) == 0)
    return 0;
  fprintf(stderr, "pgq-lua enqueue: %" PRId64 " jobs are enqueued, but not all of their ids could be printed: %s\n",
          count, strerror(errno));
  return 1;
}

int enqueue_lines(PGconn *conn, const char *queue, const struct pgq_options *options) {
  struct command command = {.lines = {.fd = STDIN_FILENO, .longest = PGQ_DATA_MAX}, .ids = tmpfile()};
  if (!command.ids) {
    fprintf(stderr, "pgq-lua enqueue: cannot create a temporary file for the ids: %s\n", strerror(errno));
    return 1;
  }
  int status = run(&command, conn, queue, options);
  fclose(command.ids);
  lines_free(&command.lines);
  return status;
}
