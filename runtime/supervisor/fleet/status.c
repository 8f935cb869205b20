#include "status.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "memory.h"
#include "memory_limit.h"
#include "old_executors.h"
#include "slot_activity.h"
#include "stuck.h"
#include "text.h"

/* At most so many queues and executors are listed, and texts are cut to so many bytes. */
enum { QUEUES_MOST = 1000, EXECUTORS_MOST = 256, TEXT_MOST = 1024 };

struct status {
  const struct options *options;
  const struct slot_list *slots;
  const struct queue_list *queues;
  const struct session_mode *mode;
  void (*changed)(void *owner);
  void *owner;
  struct stuck *stuck; /* NULL: nobody looks for stuck handlers */
  const char *stage;
  char *script;       /* its path, from the root if that is known */
  char *script_error; /* NULL: none */
};

struct status *status_new(const struct options *options, const char *script, const struct slot_list *slots,
                          const struct queue_list *queues, const struct session_mode *mode) {
  struct status *status = memory_new(sizeof *status);
  char *path = realpath(script, NULL);
  *status = (struct status){.options = options, .slots = slots, .queues = queues, .mode = mode, .stage = "loading"};
  status->script = memory_text(path ? path : script);
  free(path);
  return status;
}

void status_free(struct status *status) {
  if (!status)
    return;
  free(status->script);
  free(status->script_error);
  free(status);
}

void status_listen(struct status *status, void (*changed)(void *owner), void *owner) {
  status->changed = changed;
  status->owner = owner;
}

void status_touch(struct status *status) {
  if (status->changed)
    status->changed(status->owner);
}

void status_set_stage(struct status *status, const char *stage) {
  status->stage = stage;
  status_touch(status);
}

const char *status_stage(const struct status *status) {
  return status->stage;
}

const char *status_script(const struct status *status) {
  return status->script;
}

const char *status_script_error(const struct status *status) {
  return status->script_error;
}

void status_set_script_error(struct status *status, const char *error, size_t length) {
  bool had = status->script_error != NULL;
  free(status->script_error);
  status->script_error = NULL;
  if (error) {
    size_t size = TEXT_MOST + 1;
    status->script_error = memory_new(size);
    text_clean(status->script_error, size, error, length);
  }
  if (had || error)
    status_touch(status);
}

/* ── values ── */

/* Adds the text, or null for NULL. Postgres accepts neither NUL nor bytes that are not UTF-8. */
static void add_text(cJSON *object, const char *name, const char *text) {
  char clean[TEXT_MOST + 1];
  if (!text) {
    cJSON_AddNullToObject(object, name);
    return;
  }
  text_clean(clean, sizeof clean, text, strlen(text));
  cJSON_AddStringToObject(object, name, clean);
}

/* Adds an integer with all its digits, which a double would not have. */
static void add_integer(cJSON *object, const char *name, int64_t value) {
  char digits[24];
  snprintf(digits, sizeof digits, "%lld", (long long)value);
  cJSON_AddRawToObject(object, name, digits);
}

/* Adds the moment `ms` milliseconds from now, by this machine's clock. */
static void add_time(cJSON *object, const char *name, int64_t ms) {
  struct timespec now;
  struct tm parts;
  char text[48];
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t at_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + ms;
  time_t seconds = (time_t)(at_ms / 1000);
  gmtime_r(&seconds, &parts);
  size_t length = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  snprintf(text + length, sizeof text - length, ".%03dZ", (int)(at_ms % 1000));
  cJSON_AddStringToObject(object, name, text);
}

/* ── parts ── */

static void add_option(void *context, const char *name, const char *value, bool is_word) {
  if (is_word)
    add_text(context, name, value);
  else
    cJSON_AddRawToObject(context, name, value);
}

static void add_executor(cJSON *list, const struct slot *slot) {
  struct slot_activity activity;
  slot_get_activity(slot, &activity);
  if (activity.pid == 0)
    return;
  cJSON *executor = cJSON_CreateObject();
  add_integer(executor, "pid", activity.pid);
  cJSON_AddBoolToObject(executor, "busy", activity.busy_ms > 0 || activity.runs);
  if (activity.busy_ms > 0)
    add_time(executor, "busy_since", -activity.busy_ms);
  else
    cJSON_AddNullToObject(executor, "busy_since");
  if (activity.has_job) {
    add_integer(executor, "job", activity.job);
    add_text(executor, "queue", activity.queue);
    add_time(executor, "job_since", -activity.job_ms);
  } else {
    cJSON_AddNullToObject(executor, "job");
    cJSON_AddNullToObject(executor, "queue");
    cJSON_AddNullToObject(executor, "job_since");
  }
  if (stuck_is_handler(&activity))
    cJSON_AddBoolToObject(executor, "stuck", true);
  add_integer(executor, "in_flight", activity.in_flight);
  add_text(executor, "version", *activity.version ? activity.version : NULL);
  cJSON_AddItemToArray(list, executor);
}

static void add_queue(cJSON *object, const struct queue *queue, int in_flight) {
  int64_t pause_ms = queue->backoff_until_ms - clock_ms();
  if (pause_ms <= 0 && in_flight == 0)
    return;
  char name[TEXT_MOST + 1];
  cJSON *said = cJSON_CreateObject();
  if (pause_ms > 0) {
    add_time(said, "backs_off_until", pause_ms);
    add_text(said, "backoff_error", queue->backoff_error);
  }
  add_integer(said, "in_flight", in_flight);
  text_clean(name, sizeof name, queue->name, strlen(queue->name));
  cJSON_AddItemToObject(object, name, said);
}

static void add_executors(cJSON *object, const struct status *status) {
  cJSON *list = cJSON_AddArrayToObject(object, "executors");
  for (int i = 0; i < status->slots->count && i < EXECUTORS_MOST; i++)
    add_executor(list, status->slots->items[i]);
}

static void add_queues(cJSON *object, const struct status *status) {
  cJSON *list = cJSON_AddObjectToObject(object, "queues");
  int left = QUEUES_MOST;
  for (const struct queue *queue = status->queues->first; queue && left > 0; queue = queue->next, left--) {
    int in_flight = 0;
    for (int i = 0; i < status->slots->count; i++)
      in_flight += slot_count_jobs(status->slots->items[i], queue);
    add_queue(list, queue, in_flight);
  }
}

static void add_totals(cJSON *object, const struct status *status) {
  int64_t memory = (int64_t)memory_of_process();
  int holds = 0;
  for (int i = 0; i < status->slots->count; i++) {
    memory += slot_memory(status->slots->items[i]);
    holds += slot_count_holding(status->slots->items[i]);
  }
  add_integer(object, "memory_bytes", memory);
  add_integer(object, "leases", slot_list_lease_count(status->slots));
  add_integer(object, "holds", holds);
}

const char *status_script_version(const struct status *status) {
  struct slot_activity activity;
  for (int i = 0; i < status->slots->count; i++) {
    slot_get_activity(status->slots->items[i], &activity);
    if (activity.pid && *activity.version)
      return activity.version;
  }
  return NULL;
}

static void on_stuck(void *owner) {
  status_touch(owner);
}

void status_watch(struct status *status, uv_loop_t *loop) {
  if (!status->stuck)
    status->stuck = stuck_new(loop, status->slots, on_stuck, status);
}

void status_unwatch(struct status *status) {
  stuck_free(status->stuck);
  status->stuck = NULL;
}

const char *status_shown_stage(const struct status *status) {
  bool reloads = strcmp(status->stage, "serving") == 0 && old_executors_count(status->slots) > 0;
  return reloads ? "reloading" : status->stage;
}

static void make_ascii(char *text) {
  char *to = text;
  for (const char *from = text; *from; from++)
    if ((*from & 0xc0) != 0x80) /* the first byte of a character */
      *to++ = (*from & 0x80) ? '?' : *from;
  *to = '\0';
}

char *status_text(const struct status *status, bool ascii) {
  cJSON *object = cJSON_CreateObject();
  const char *problem = status->mode->problem.text;
  add_time(object, "at", 0);
  cJSON_AddStringToObject(object, "stage", status_shown_stage(status));
  add_text(object, "script", status->script);
  add_text(object, "script_version", status_script_version(status));
  add_text(object, "script_error", status->script_error);
  add_text(object, "error", *problem ? problem : NULL);
  options_each_changed(status->options, add_option, cJSON_AddObjectToObject(object, "options"));
  add_totals(object, status);
  int64_t all_busy_ms = stuck_all_busy_ms(status->slots);
  if (all_busy_ms >= STUCK_ALL_MS)
    add_time(object, "all_busy_since", -all_busy_ms);
  else
    cJSON_AddNullToObject(object, "all_busy_since");
  add_executors(object, status);
  add_queues(object, status);
  char *printed = cJSON_PrintUnformatted(object), *text = memory_text(printed ? printed : "{}");
  cJSON_free(printed);
  cJSON_Delete(object);
  if (ascii)
    make_ascii(text);
  return text;
}
