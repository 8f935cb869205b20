#include "readiness.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* Adds the text as a part of a line. */
static void add(struct buffer *to, const char *text) {
  for (; to && *text; text++)
    buffer_add(to, iscntrl((unsigned char)*text) ? " " : text, 1);
}

/* Returns false. */
static bool refuse(struct buffer *reasons, const char *word, const char *text, const char *detail) {
  add(reasons, word);
  add(reasons, ": ");
  add(reasons, text);
  if (detail && *detail) {
    add(reasons, ": ");
    add(reasons, detail);
  }
  if (reasons)
    buffer_add(reasons, "\n", 1);
  return false;
}

/* The stages of status_set_stage() in which a worker does not claim. */
static bool check_stage(const struct worker_view *view, struct buffer *reasons) {
  const char *stage = status_stage(view->status);
  if (strcmp(stage, "loading") == 0)
    return refuse(reasons, stage, "the first executor loads the script", NULL);
  if (strcmp(stage, "connecting") == 0)
    return refuse(reasons, stage, "the worker has not begun to work with the database", view->mode->problem.text);
  if (strcmp(stage, "quiet") == 0)
    return refuse(reasons, stage, "the worker claims no jobs until 'pgq-lua quiet --off' asks it to", NULL);
  if (strcmp(stage, "stopping") == 0)
    return refuse(reasons, stage, "the worker claims no more jobs, and ends when its jobs have ended", NULL);
  return true;
}

static bool may_claim(const struct slot_list *slots) {
  for (int i = 0; i < slots->count; i++)
    if (slot_has_session(slots->items[i]))
      return true;
  return false;
}

static bool check_sessions(const struct worker_view *view, struct buffer *reasons) {
  const char *stage = status_stage(view->status);
  if (strcmp(stage, "serving") != 0 && strcmp(stage, "quiet") != 0) /* then the stage is the reason */
    return true;
  if (!control_is_up(*view->control))
    return refuse(reasons, "connecting", "the control session was lost", view->mode->problem.text);
  if (!may_claim(view->slots))
    return refuse(reasons, "connecting", "no executor has a session that claims", view->mode->problem.text);
  return true;
}

static bool check_script(const struct worker_view *view, struct buffer *reasons) {
  const char *error = status_script_error(view->status);
  if (!error)
    return true;
  const char *traceback = strstr(error, "\nstack traceback:");
  char *message = memory_copy(error, traceback ? (size_t)(traceback - error) : strlen(error));
  refuse(reasons, "script", "the script no longer loads", message);
  free(message);
  return false;
}

bool readiness_check(const struct worker_view *view, struct buffer *reasons) {
  bool stage = check_stage(view, reasons), sessions = check_sessions(view, reasons);
  return check_script(view, reasons) && stage && sessions;
}
