#include "request.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_sql.h"
#include "duration.h"
#include "failure.h"
#include "protocol.h"
#include "retry_waits.h"
#include "text.h"

/* As the check of the table, and far more than the index accepts. The server refuses a shorter name that is too long
 * for the index. */
#define QUEUE_MAX ((size_t)1 << 20)

/* As the check of the table. */
enum { WAITS_MAX = 1000 };

/* What can be enqueued can be run. */
_Static_assert(PGQ_DATA_MAX == JOB_DATA_MOST, "both are the longest data of a job");

const char request_insert_sql[] = SQL_ENQUEUE;

static const char moment_sql[] = SQL_MOMENT;

enum { QUEUE, DATA, AFTER, DELAY, WAITS }; /* $1 to $5 */

static const struct pgq_options default_options = PGQ_OPTIONS_INIT;

static int check_queue(const char *queue, struct pgq_error *error) {
  if (queue == NULL || *queue == '\0')
    failure_set(error, "22023", "the queue name is empty");
  else if (!text_is_utf8(queue, strlen(queue)))
    failure_set(error, "22023", "the queue name is not valid UTF-8");
  else if (strlen(queue) > QUEUE_MAX)
    failure_set(error, "54000", "the queue name has %zu bytes, the limit is %zu", strlen(queue), QUEUE_MAX);
  else
    return 0;
  return -1;
}

int request_check_data(const void *data, size_t length, struct pgq_error *error) {
  if (data == NULL && length > 0)
    failure_set(error, "22023", "data is NULL, but its length is %zu", length);
  else if (length > PGQ_DATA_MAX)
    failure_set(error, "54000", "data has %zu bytes, the limit is %zu", length, PGQ_DATA_MAX);
  else
    return 0;
  return -1;
}

static int check_options(const struct pgq_options *options, struct pgq_error *error) {
  if (options->delay_ms < 0)
    failure_set(error, "22023", "the delay is negative: %" PRId64 " ms", options->delay_ms);
  else if (options->delay_ms > DURATION_MAX_MS)
    failure_set(error, "22023", "the delay is too long: %" PRId64 " ms", options->delay_ms);
  else if (options->after != NULL && options->delay_ms > 0)
    failure_set(error, "22023", "both a delay and an earliest time to run are given; give one of them");
  else if (options->after != NULL && !text_is_utf8(options->after, strlen(options->after)))
    failure_set(error, "22023", "the earliest time to run is not valid UTF-8");
  else if (options->no_retries && options->retry_wait_count > 0)
    failure_set(error, "22023", "both retry waits and no retries are asked for");
  else if (options->retry_wait_count > WAITS_MAX)
    failure_set(error, "54000", "there are %zu retry waits, the limit is %d", options->retry_wait_count, WAITS_MAX);
  else if (options->retry_waits == NULL && options->retry_wait_count > 0)
    failure_set(error, "22023", "the retry waits are NULL, but their count is %zu", options->retry_wait_count);
  else
    return 0;
  return -1;
}

/* Writes the wait at `index` in its canonical form. */
static int format_wait(const char *wait, size_t index, char buffer[DURATION_TEXT_SIZE], struct pgq_error *error) {
  const char *problem = "is NULL";
  char shown[64] = "";
  int64_t ms;
  if (wait != NULL && duration_parse(wait, strlen(wait), &ms, &problem) == 0) {
    duration_format(ms, buffer);
    return 0;
  }
  if (wait != NULL)
    text_clean(shown, sizeof shown, wait, strlen(wait));
  failure_set(error, "22023", "retry wait %zu (\"%s\") %s; write 1h30m, 10m0s, 45s or 250ms", index + 1, shown,
              problem);
  return -1;
}

/* Returns the waits as the text of an array, which the caller frees; NULL on failure. */
static char *format_waits(const struct pgq_options *options, struct pgq_error *error) {
  size_t count = options->retry_wait_count;
  char *array = NULL;
  if (count == 0)
    array = strdup(options->no_retries ? "{}" : RETRY_WAITS_DEFAULT);
  else if (count < SIZE_MAX / DURATION_TEXT_SIZE - 1)
    array = malloc(count * DURATION_TEXT_SIZE + sizeof "{}");
  if (array == NULL) {
    failure_set(error, "53200", "out of memory for %zu retry waits", count);
    return NULL;
  }
  char *end = array;
  for (size_t i = 0; i < count; i++) {
    *end++ = i == 0 ? '{' : ',';
    if (format_wait(options->retry_waits[i], i, end, error) != 0) {
      free(array);
      return NULL;
    }
    end += strlen(end);
  }
  if (count > 0)
    memcpy(end, "}", 2);
  return array;
}

int request_init(struct request *request, const PGconn *conn, const char *queue, const struct pgq_options *options,
                 struct pgq_error *error) {
  if (options == NULL)
    options = &default_options;
  if (failure_check_connection(error, conn) != 0 || check_queue(queue, error) != 0 ||
      check_options(options, error) != 0)
    return -1;
  *request = (struct request){.waits = format_waits(options, error)};
  if (request->waits == NULL)
    return -1;
  snprintf(request->delay, sizeof request->delay, "%" PRId64, options->delay_ms);
  request->types[QUEUE] = OID_BYTEA;
  request->values[QUEUE] = queue;
  request->lengths[QUEUE] = (int)strlen(queue);
  request->formats[QUEUE] = 1;
  request->types[AFTER] = OID_TIMESTAMPTZ;
  request->values[AFTER] = options->after;
  request->types[DELAY] = OID_INT8;
  request->values[DELAY] = options->delay_ms > 0 ? request->delay : NULL;
  request->types[WAITS] = OID_TEXT_ARRAY;
  request->values[WAITS] = request->waits;
  return 0;
}

void request_free(struct request *request) {
  free(request->waits);
  request->waits = NULL;
}

void request_set_data(struct request *request, Oid type, const void *data, size_t length) {
  request->types[DATA] = type;
  request->values[DATA] = length > 0 ? data : ""; /* a NULL value would be an SQL null */
  request->lengths[DATA] = (int)length;
  request->formats[DATA] = 1;
}

/* The time is sent in binary, since its text would depend on the DateStyle of the session. */
int request_send_moment(const struct request *request, PGconn *conn, struct pgq_error *error) {
  if (request->values[DELAY] == NULL)
    return 0;
  if (PQsendQueryParams(conn, moment_sql, 1, &request->types[DELAY], &request->values[DELAY], NULL, NULL, 1) == 1)
    return 1;
  failure_from_result(error, conn, NULL);
  return -1;
}

int request_take_moment(struct request *request, const PGconn *conn, const PGresult *result, struct pgq_error *error) {
  if (PQresultStatus(result) != PGRES_TUPLES_OK || PQgetlength(result, 0, 0) != sizeof request->moment) {
    failure_from_result(error, conn, result);
    return -1;
  }
  memcpy(request->moment, PQgetvalue(result, 0, 0), sizeof request->moment);
  request->values[AFTER] = request->moment;
  request->lengths[AFTER] = sizeof request->moment;
  request->formats[AFTER] = 1;
  request->values[DELAY] = NULL;
  return 0;
}

int64_t request_take_id(const PGconn *conn, const PGresult *result, struct pgq_error *error) {
  if (PQresultStatus(result) != PGRES_TUPLES_OK) {
    request_explain(conn, result, error);
    return -1;
  }
  if (PQntuples(result) != 1) {
    failure_set(error, "02000", "the database inserted no row; is there a trigger or rule on pgq_jobs?");
    return -1;
  }
  return strtoll(PQgetvalue(result, 0, 0), NULL, 10);
}

void request_explain(const PGconn *conn, const PGresult *result, struct pgq_error *error) {
  const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);
  char message[PGQ_MESSAGE_SIZE];
  failure_from_result(error, conn, result);
  if (error == NULL)
    return;
  memcpy(message, error->message, sizeof message);
  if (strcmp(error->sqlstate, "42P01") == 0)
    failure_set(error, "42P01", "%s; run `pgq-lua migrate` to create the table", message);
  /* Recognised by the function in the server, since the message may be in any language. */
  if (strcmp(error->sqlstate, "54000") == 0 && function != NULL &&
      (strstr(function, "bt_check_third_page") != NULL || strstr(function, "index_form_tuple") != NULL))
    failure_set(error, "54000", "the queue name is too long for the index: %s", message);
}
