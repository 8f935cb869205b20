#include "queue_settings.h"

#include <stdlib.h>

#include "clock.h"
#include "log.h"
#include "memory.h"

/* The least time between two reads that notifications ask for. */
enum { READ_EVERY_MS = 50 };

/* The wait before another try after a failed one. */
enum { TRY_AGAIN_MS = 1000 };

/* The end of a pause is a little different in each answer. If it has moved by more than this, somebody has moved it. */
enum { MOVED_MS = 250 };

struct queue_settings {
  const struct queue_list *queues;
  struct slot_list *slots;
  struct wakeup *wakeup;
  queue_settings_act *act;
  void *owner;
  uv_timer_t timer; /* until the next read that a notification asks for */
  int64_t read_ms;  /* when the table was last read */
  int asked;        /* for how many queues, the first ones of the list; 0: no answer is awaited */
  bool again;       /* the table is to be read after that answer */
  bool known;
  bool failure_logged;
};

struct queue_settings *queue_settings_new(uv_loop_t *loop, const struct queue_list *queues, struct slot_list *slots,
                                          struct wakeup *wakeup, queue_settings_act *act, void *owner) {
  struct queue_settings *settings = memory_new(sizeof *settings);
  *settings = (struct queue_settings){.queues = queues, .slots = slots, .wakeup = wakeup, .act = act, .owner = owner};
  settings->read_ms = clock_ms() - READ_EVERY_MS;
  uv_timer_init(loop, &settings->timer);
  settings->timer.data = settings;
  return settings;
}

static void free_settings(uv_handle_t *timer) {
  free(timer->data);
}

void queue_settings_free(struct queue_settings *settings) {
  if (settings)
    uv_close((uv_handle_t *)&settings->timer, free_settings);
}

bool queue_settings_are_known(const struct queue_settings *settings) {
  return settings->known;
}

/* ── reading ── */

void queue_settings_read(struct queue_settings *settings) {
  struct parameters parameters = {0};
  int count = 0;
  if (settings->asked > 0) {
    settings->again = true;
    return;
  }
  const char **names = memory_new((size_t)(settings->queues->count + 1) * sizeof *names);
  for (const struct queue *queue = settings->queues->first; queue; queue = queue->next)
    names[count++] = queue->name;
  parameters_add_text_array(&parameters, names, count);
  settings->again = false;
  settings->read_ms = clock_ms();
  if (settings->act(settings->owner, STATEMENT_QUEUE_SETTINGS, &parameters)) /* else the next session reads it */
    settings->asked = count;
  settings->known = settings->known || count == 0;
  parameters_free(&parameters);
  free(names);
}

static void on_timer(uv_timer_t *timer) {
  queue_settings_read(timer->data);
}

void queue_settings_notified(struct queue_settings *settings) {
  int64_t wait_ms = settings->read_ms + READ_EVERY_MS - clock_ms();
  if (!uv_is_active((uv_handle_t *)&settings->timer))
    uv_timer_start(&settings->timer, on_timer, wait_ms > 0 ? (uint64_t)wait_ms : 0, 0);
}

void queue_settings_down(struct queue_settings *settings) {
  settings->asked = 0;
  settings->again = false;
}

/* ── the answer ── */

static const char *text_of(const PGresult *result, int row, int column) {
  return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

/* The end of the pause in the worker's clock. */
static int64_t pause_end_ms(const PGresult *result, int row, int64_t now_ms) {
  if (row < 0 || PQgetisnull(result, row, QUEUE_SETTINGS_LEFT_MS))
    return 0;
  int64_t left_ms = result_i64(result, row, QUEUE_SETTINGS_LEFT_MS);
  return left_ms < PAUSED_FOR_EVER_MS - now_ms ? now_ms + left_ms : PAUSED_FOR_EVER_MS;
}

/* Sets the pause of the queue. Returns whether it has changed. */
static bool take_pause(struct queue_settings *settings, struct queue *queue, const PGresult *result, int row) {
  int64_t now_ms = clock_ms(), until_ms = pause_end_ms(result, row, now_ms);
  int64_t moved_ms =
      until_ms > queue->pause_until_ms ? until_ms - queue->pause_until_ms : queue->pause_until_ms - until_ms;
  bool paused = until_ms > now_ms, was_paused = queue->paused;
  queue_set_pause(queue, until_ms);
  queue->paused = paused;
  if (paused && !was_paused) {
    log_info("queue is paused", LOG_T("queue", queue->name), LOG_T("until", text_of(result, row, QUEUE_SETTINGS_UNTIL)),
             LOG_T("by", text_of(result, row, QUEUE_SETTINGS_BY)),
             LOG_T("reason", text_of(result, row, QUEUE_SETTINGS_REASON)));
    slot_list_recall(settings->slots, queue);
  } else if (was_paused && !paused) {
    log_info("queue is not paused any more", LOG_T("queue", queue->name));
  }
  return paused != was_paused || (paused && moved_ms > MOVED_MS);
}

/* Ends the backoff of a queue that was resumed since the last answer. Returns whether it was. */
static bool take_resumption(struct queue *queue, const PGresult *result, int row) {
  bool resumed = row >= 0 && !PQgetisnull(result, row, QUEUE_SETTINGS_RESUMED_AT);
  int64_t resumed_us = resumed ? result_i64(result, row, QUEUE_SETTINGS_RESUMED_AT) : 0;
  bool changed = queue->known && resumed && (!queue->resumed || queue->resumed_us != resumed_us);
  queue->known = true;
  queue->resumed = resumed;
  queue->resumed_us = resumed_us;
  if (changed)
    queue_end_backoff(queue);
  return changed;
}

/* Queues without a row are not paused, and were never resumed. */
static void take(struct queue_settings *settings, const PGresult *result) {
  bool changed = false;
  int row = 0, position = 0;
  for (struct queue *queue = settings->queues->first; queue && position < settings->asked; queue = queue->next) {
    position++;
    bool has_row = row < PQntuples(result) && result_i64(result, row, QUEUE_SETTINGS_QUEUE) == position;
    bool was_known = queue->known;
    bool paused = take_pause(settings, queue, result, has_row ? row : -1);
    bool resumed = take_resumption(queue, result, has_row ? row : -1);
    changed = changed || paused || resumed || !was_known;
    row += has_row;
  }
  if (changed && settings->known) /* before, no job could have been claimed */
    wakeup_steered(settings->wakeup);
}

bool queue_settings_result(struct queue_settings *settings, enum statement statement, const PGresult *result) {
  if (statement != STATEMENT_QUEUE_SETTINGS)
    return false;
  if (PQresultStatus(result) == PGRES_TUPLES_OK) {
    take(settings, result);
    settings->known = true;
    settings->failure_logged = false;
  } else {
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    log_line(settings->failure_logged ? LOG_DEBUG : LOG_ERROR, "cannot read which queues are paused: trying again",
             LOG_T("error", primary ? primary : PQresultErrorMessage(result)), LOG_US("retry_in", TRY_AGAIN_MS * 1000));
    settings->failure_logged = true;
    settings->again = false;
    uv_timer_start(&settings->timer, on_timer, TRY_AGAIN_MS, 0);
  }
  settings->asked = 0;
  if (settings->again)
    queue_settings_notified(settings);
  return true;
}
