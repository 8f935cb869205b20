#include "hold_error.h"

#include <stdio.h>
#include <string.h>

#include "growing_wait.h"
#include "log.h"

enum { WAIT_LEAST_MS = 100, WAIT_MOST_MS = 10000 };

/* An error that passes concerns a row when it has come more often than this. */
enum { PASSES_MOST = 3 };

static void on_timer(uv_timer_t *timer) {
  hold_error_wait_over(timer->data);
}

void hold_error_init(struct hold_error *error, uv_loop_t *loop, void *hold) {
  uv_timer_init(loop, &error->timer);
  error->timer.data = hold;
  error->wait_ms = WAIT_LEAST_MS;
}

void hold_error_close(struct hold_error *error, uv_close_cb closed) {
  uv_close((uv_handle_t *)&error->timer, closed);
}

void hold_error_note(struct hold_error *error, const PGresult *result) {
  const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (error->noted)
    return;
  hold_error_note_text(error, sqlstate ? sqlstate : "", message ? message : PQresultErrorMessage(result));
  error->in_context = PQresultErrorField(result, PG_DIAG_CONTEXT) != NULL;
}

void hold_error_note_text(struct hold_error *error, const char *sqlstate, const char *message) {
  if (error->noted)
    return;
  error->noted = true;
  error->in_context = false;
  snprintf(error->sqlstate, sizeof error->sqlstate, "%s", sqlstate);
  snprintf(error->message, sizeof error->message, "%s", message);
}

void hold_error_forget(struct hold_error *error) {
  error->noted = false;
}

bool hold_error_is_noted(const struct hold_error *error) {
  return error->noted;
}

const char *hold_error_message(const struct hold_error *error) {
  return error->message;
}

/* Whether the error's code begins with one of these texts; the list ends with NULL. */
static bool begins_with(const struct hold_error *error, const char *const *codes) {
  for (; *codes; codes++)
    if (strncmp(error->sqlstate, *codes, strlen(*codes)) == 0)
      return true;
  return false;
}

bool hold_error_is_content(const struct hold_error *error) {
  /* classes of data exceptions, violated constraints and errors raised by triggers */
  return begins_with(error, (const char *const[]){"22", "23", "27", "38", "39", "44", "P0", NULL});
}

bool hold_error_is_of_row(const struct hold_error *error) {
  /* conflicts with other transactions, locks, time limits, a lack of memory */
  bool passes = begins_with(error, (const char *const[]){"40", "55P03", "57014", "53200", NULL});
  return hold_error_is_content(error) || (error->in_context && (!passes || error->failures >= PASSES_MOST));
}

bool hold_error_is_of_tables(const struct hold_error *error) {
  /* a plan that does not fit any more; unknown columns, tables, functions and types; an unknown schema; an oid that is
   * gone */
  static const char *const states[] = {"0A000", "42703", "42P01", "42883", "42704", "42804",
                                       "42846", "42P18", "3F000", "XX000", NULL};
  return !error->in_context && begins_with(error, states);
}

bool hold_error_is_of_session(const struct hold_error *error) {
  /* a standby, a shutdown; a broken protocol, a missing prepared statement */
  bool always = begins_with(error, (const char *const[]){"25006", "57P", NULL});
  bool own = begins_with(error, (const char *const[]){"08", "26", NULL}) && !error->in_context;
  return error->sqlstate[0] == '\0' || always || own || hold_error_is_of_tables(error);
}

void hold_error_begin(struct hold_error *error, const char *name, bool wait) {
  error->noted = false;
  error->failures++;
  if (strcmp(error->logged, error->message) != 0)
    log_warn("the database refused a statement; trying again", LOG_T("hold", name), LOG_T("sqlstate", error->sqlstate),
             LOG_T("error", error->message));
  memcpy(error->logged, error->message, sizeof error->logged);
  if (wait)
    hold_error_wait(error);
}

void hold_error_wait(struct hold_error *error) {
  hold_error_wait_ms(error, error->wait_ms);
  error->wait_ms = growing_wait_after(error->wait_ms, WAIT_LEAST_MS, WAIT_MOST_MS);
}

void hold_error_wait_ms(struct hold_error *error, int64_t wait_ms) {
  uv_timer_start(&error->timer, on_timer, (uint64_t)wait_ms, 0);
}

void hold_error_end_wait(struct hold_error *error) {
  uv_timer_stop(&error->timer);
}

bool hold_error_is_waiting(const struct hold_error *error) {
  return uv_is_active((const uv_handle_t *)&error->timer);
}

void hold_error_reset(struct hold_error *error) {
  error->wait_ms = WAIT_LEAST_MS;
  error->failures = 0;
  error->logged[0] = '\0';
}
