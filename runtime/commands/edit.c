#include "edit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit.h"
#include "commands_sql.h"
#include "job_ids.h"
#include "job_values.h"
#include "one_by_one.h"
#include "refusal.h"

static const struct bulk_verb any_verb = {
    .command = "edit",
    .usage = "edit [options] ID…",
    .done = "edited",
    .may_states = JOB_WAITING | JOB_ENDED,
    .may_not = "a running job cannot be edited",
    .needs = "{pgq_jobs SELECT,pgq_jobs UPDATE run_after,pgq_jobs UPDATE retry_waits,pgq_jobs UPDATE queue_name,"
             "pgq_jobs UPDATE data," AUDIT_NEEDS "}",
};

/* The values of the parameters of edit_jobs.sql. */
struct edit {
  const char *after, *waits, *queue; /* NULL: unchanged */
  char delay[40];                    /* "": unchanged */
  const struct buffer *data;         /* NULL: unchanged */
};

static PGresult *on_change(struct transaction *transaction, const char *ids, void *context) {
  const struct edit *edit = context;
  const char *values[] = {ids, edit->after, *edit->delay ? edit->delay : NULL, edit->waits, edit->queue};
  transaction->option = edit->after ? "--after" : NULL;
  transaction->value = edit->after;
  transaction->value_help = TRANSACTION_TIME_HELP;
  return transaction_ask_data(transaction, SQL_EDIT_JOBS, 5, values, edit->data);
}

/* The waits as an array of texts: durations have no characters that need quotes. */
static char *waits_array(const struct wait_list *waits) {
  struct buffer text = {0};
  buffer_add(&text, "{", 1);
  for (size_t i = 0; i < waits->count; i++) {
    buffer_add(&text, ",", i > 0);
    buffer_add(&text, waits->texts[i], strlen(waits->texts[i]));
  }
  buffer_add(&text, "}", 2); /* with the NUL */
  return (char *)text.bytes;
}

/* Which options were given, for pgq_audit. The data itself is not written there. */
static char *describe(const struct options *options) {
  struct buffer text = {0};
  const struct {
    const char *name, *value;
  } given[] = {{"--data", options->new_data || options->data_file ? "" : NULL},
               {"--after ", options->after},
               {"--retry-waits ", options->retry_waits},
               {"--queue ", options->queue}};
  char delay[40];
  if (options->delay_ms >= 0)
    buffer_add(&text, delay, (size_t)snprintf(delay, sizeof delay, "--delay %" PRId64 "ms", options->delay_ms));
  for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
    if (!given[i].value)
      continue;
    buffer_add(&text, " ", text.length > 0);
    buffer_add(&text, given[i].name, strlen(given[i].name));
    buffer_add(&text, given[i].value, strlen(given[i].value));
  }
  buffer_add(&text, "", 1);
  return (char *)text.bytes;
}

/* Returns the problem with the words and options, or NULL. */
static const char *find_misuse(const struct options *options, int argc) {
  if (argc < 1)
    return "the id of a job is missing";
  if (options->new_data && options->data_file)
    return "--data and --data-file exclude each other; give one of them";
  if (options->after && options->delay_ms >= 0)
    return "--delay and --after exclude each other; give one of them";
  if (!options->new_data && !options->data_file && !options->after && options->delay_ms < 0 && !options->retry_waits &&
      !options->queue)
    return "there is nothing to change: give --data, --data-file, --delay, --after, --retry-waits or --queue";
  if (options->queue && *options->queue == '\0')
    return "the name of the queue is empty";
  return NULL;
}

static int edit(const struct options *options, const struct wait_list *waits, const struct buffer *data, int argc,
                char **argv) {
  struct bulk_verb verb = any_verb;
  char *array = options->retry_waits ? waits_array(waits) : NULL, *detail = describe(options);
  struct edit edit = {.after = options->after,
                      .waits = array,
                      .queue = options->queue,
                      .data = options->new_data || options->data_file ? data : NULL};
  if (options->delay_ms >= 0)
    snprintf(edit.delay, sizeof edit.delay, "%" PRId64 " milliseconds", options->delay_ms);
  if (options->after || options->delay_ms >= 0) {
    verb.may_states = JOB_WAITING;
    verb.may_not = "only the time of a job that waits can be changed";
  }
  struct one_by_one_change change = {on_change, &edit, detail};
  int status = one_by_one_run_change(&verb, options, &change, argc, argv);
  free(array);
  free(detail);
  return status;
}

int edit_command(const struct options *options, int argc, char **argv) {
  struct wait_list waits = {0};
  struct buffer data = {0};
  int status = 2;
  const char *misuse = find_misuse(options, argc);
  if (misuse)
    refuse("edit", any_verb.usage, "%s", misuse);
  else if (job_ids_check("edit", argc, argv, any_verb.usage) == 0 &&
           wait_list_read(&waits, options->retry_waits, "edit") == 0) {
    if (options->new_data)
      buffer_add(&data, options->new_data, strlen(options->new_data));
    bool unreadable = options->data_file && data_read(&data, options->data_file, "edit") != 0;
    status = unreadable ? 1 : edit(options, &waits, &data, argc, argv);
  }
  wait_list_free(&waits);
  buffer_free(&data);
  return status;
}
