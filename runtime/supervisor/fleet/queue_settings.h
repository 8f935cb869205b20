#ifndef PGQ_QUEUE_SETTINGS_H
#define PGQ_QUEUE_SETTINGS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <uv.h>

#include "queue.h"
#include "slot_list.h"
#include "statements.h"
#include "wakeup.h"

/*
 * What operators have said about this worker's queues in the table pgq_queues: which are paused, and which were
 * resumed. The worker reads it before it claims for the first time, in each new session, at each heartbeat, and when a
 * notification says that the table has changed. Every role may notify, so the worker reads it a few times a second at
 * most.
 */
struct queue_settings;

/* Sends an act of one statement in the control session. Returns false if the session is down. */
typedef bool queue_settings_act(void *owner, enum statement statement, const struct parameters *parameters);

/* queue_settings_new(loop, queues, slots, wakeup, act, owner): all of them must outlive the object. */
struct queue_settings *queue_settings_new(uv_loop_t *loop, const struct queue_list *queues, struct slot_list *slots,
                                          struct wakeup *wakeup, queue_settings_act *act, void *owner);

/* queue_settings_read(settings): sends STATEMENT_QUEUE_SETTINGS, now or after the answer to the last one. */
void queue_settings_read(struct queue_settings *settings);

/* queue_settings_notified(settings): the table has changed: reads it soon. */
void queue_settings_notified(struct queue_settings *settings);

/* queue_settings_down(settings): the session was lost: no answer comes any more. */
void queue_settings_down(struct queue_settings *settings);

/* queue_settings_result(settings, statement, result): takes the answer. Returns whether the statement is its own. */
bool queue_settings_result(struct queue_settings *settings, enum statement statement, const PGresult *result);

/* queue_settings_are_known(settings): whether the table has been read at least once. */
bool queue_settings_are_known(const struct queue_settings *settings);

/* queue_settings_free(settings): frees the object in a later turn of the loop. NULL is allowed. */
void queue_settings_free(struct queue_settings *settings);

#endif
