#include "trouble.h"

#include <stdio.h>
#include <string.h>

#include "log.h"

enum { WAIT_LEAST_MS = 100, WAIT_MOST_MS = 10000 };

static void on_timer(uv_timer_t *timer) {
  hold_trouble_over(timer->data);
}

void trouble_init(struct trouble *trouble, uv_loop_t *loop, void *hold) {
  uv_timer_init(loop, &trouble->timer);
  trouble->timer.data = hold;
  trouble->wait_ms = WAIT_LEAST_MS;
}

void trouble_close(struct trouble *trouble, uv_close_cb closed) {
  uv_close((uv_handle_t *)&trouble->timer, closed);
}

void trouble_note(struct trouble *trouble, const PGresult *result) {
  const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (trouble->noted)
    return;
  trouble->noted = true;
  snprintf(trouble->sqlstate, sizeof trouble->sqlstate, "%s", sqlstate ? sqlstate : "");
  snprintf(trouble->message, sizeof trouble->message, "%s", message ? message : PQresultErrorMessage(result));
}

void trouble_forget(struct trouble *trouble) {
  trouble->noted = false;
}

bool trouble_is_noted(const struct trouble *trouble) {
  return trouble->noted;
}

const char *trouble_message(const struct trouble *trouble) {
  return trouble->message;
}

bool trouble_is_content(const struct trouble *trouble) {
  /* data exceptions, constraints, what users' triggers raise */
  static const char *const classes[] = {"22", "23", "27", "38", "39", "44", "P0"};
  for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
    if (strncmp(trouble->sqlstate, classes[i], 2) == 0)
      return true;
  return false;
}

bool trouble_is_of_session(const struct trouble *trouble) {
  /* a standby, a shutdown, a broken protocol, prepared statements that somebody dropped */
  static const char *const states[] = {"25006", "57P", "08", "26", ""};
  for (size_t i = 0; states[i][0]; i++)
    if (strncmp(trouble->sqlstate, states[i], strlen(states[i])) == 0)
      return true;
  return trouble->sqlstate[0] == '\0';
}

void trouble_begin(struct trouble *trouble, const char *name, bool wait) {
  trouble->noted = false;
  if (strcmp(trouble->logged, trouble->message) != 0)
    log_warn("the database refused; trying again", LOG_T("hold", name), LOG_T("sqlstate", trouble->sqlstate),
             LOG_T("error", trouble->message));
  memcpy(trouble->logged, trouble->message, sizeof trouble->logged);
  if (!wait)
    return;
  uv_timer_start(&trouble->timer, on_timer, (uint64_t)trouble->wait_ms, 0);
  trouble->wait_ms = trouble->wait_ms * 2 < WAIT_MOST_MS ? trouble->wait_ms * 2 : WAIT_MOST_MS;
}

bool trouble_is_waiting(const struct trouble *trouble) {
  return uv_is_active((const uv_handle_t *)&trouble->timer);
}

void trouble_over(struct trouble *trouble) {
  trouble->wait_ms = WAIT_LEAST_MS;
  trouble->logged[0] = '\0';
}
