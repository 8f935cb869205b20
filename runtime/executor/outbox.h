#ifndef PGQ_OUTBOX_H
#define PGQ_OUTBOX_H

#include <stdint.h>

#include "buffer.h"

/*
 * Frames from the executor to its supervisor. Outcomes are collected and sent many at a time. A thread sends them
 * within a few milliseconds, even while a handler keeps the main thread busy.
 */
struct outbox;

/* outbox_new(socket): starts the thread. The caller still owns the socket. NULL if no thread can be started. */
struct outbox *outbox_new(int socket);

/* outbox_add_outcome(outbox, fields): adds an outcome, whose fields, as in FRAME_OUTCOMES, are copied. */
void outbox_add_outcome(struct outbox *outbox, const struct buffer *fields);

/* outbox_send(outbox, type, fields): sends the collected outcomes, then a frame of this type with these fields. */
void outbox_send(struct outbox *outbox, uint8_t type, const struct buffer *fields);

/* outbox_flush(outbox): sends the collected outcomes. All sends block while the socket is full. If the supervisor has
 * closed the socket, the process exits. In a child that a handler has forked, nothing is sent. */
void outbox_flush(struct outbox *outbox);

/* outbox_free(outbox): ends the thread, and discards outcomes that were not sent. NULL is allowed. */
void outbox_free(struct outbox *outbox);

#endif
