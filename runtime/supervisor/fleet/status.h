#ifndef PGQ_STATUS_H
#define PGQ_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "connection.h"
#include "options.h"
#include "queue.h"
#include "slot_list.h"

/*
 * What the worker says about itself in pgq_workers.status: a JSON object, whose fields the page pgq-lua-operating(7)
 * lists. It is written with each heartbeat, and soon after one of the functions below has said that it has changed.
 */
struct status;

/* status_new(options, script, slots, queues, mode): all of them must outlive the status, except the path of the script,
 * which is copied. status_free(): NULL is allowed. */
struct status *status_new(const struct options *options, const char *script, const struct slot_list *slots,
                          const struct queue_list *queues, const struct session_mode *mode);
void status_free(struct status *status);

/* status_listen(status, changed, owner): changed(owner) is called when the status has changed and should be written.
 * NULL: nobody is called. */
void status_listen(struct status *status, void (*changed)(void *owner), void *owner);

/* status_set_stage(status, stage): the stage of the worker's life, such as "serving": a static text. */
void status_set_stage(struct status *status, const char *stage);

/* status_set_script_error(status, error, length): why the script cannot be loaded; NULL: it has been loaded. */
void status_set_script_error(struct status *status, const char *error, size_t length);

/* What it says: the stage; the path of the script; why the script cannot be loaded, NULL: it can; the version of the
 * script that executors run, NULL: not known. The texts are valid until the loop's next turn. */
const char *status_stage(const struct status *status);

/* status_shown_stage(status): the same for readers: "reloading" while executors with an older script still have jobs.
 */
const char *status_shown_stage(const struct status *status);
const char *status_script(const struct status *status);
const char *status_script_error(const struct status *status);
const char *status_script_version(const struct status *status);

/* status_touch(status): something else that it shows has changed: a queue backs off, a handler is stuck. */
void status_touch(struct status *status);

/* status_watch(status, loop): begins to look for handlers that are stuck. status_unwatch(status): ceases. */
void status_watch(struct status *status, uv_loop_t *loop);
void status_unwatch(struct status *status);

/* status_text(status, ascii): the object as JSON text that Postgres accepts; the caller frees it. With `ascii`,
 * characters beyond ASCII become question marks, for databases in other encodings than UTF-8. */
char *status_text(const struct status *status, bool ascii);

#endif
