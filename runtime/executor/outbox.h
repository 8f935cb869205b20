#ifndef PGQ_OUTBOX_H
#define PGQ_OUTBOX_H

#include <stdint.h>

#include "buffer.h"

/*
 * What the executor sends to its supervisor. Outcomes are collected and sent many at a time; a thread sees to it that
 * none waits for longer than a few milliseconds, also while a handler keeps the main thread busy for hours.
 */
struct outbox;

/* outbox_new(socket): starts the thread. The socket stays the caller's. NULL when there can be no thread. */
struct outbox *outbox_new(int socket);

/* outbox_add_outcome(outbox, fields): the fields of one outcome, as in FRAME_OUTCOMES; copied. */
void outbox_add_outcome(struct outbox *outbox, const struct buffer *fields);

/* outbox_send(outbox, type, fields): a frame, at once, behind the outcomes that wait. */
void outbox_send(struct outbox *outbox, uint8_t type, const struct buffer *fields);

/* outbox_flush(outbox): sends the outcomes that wait. A supervisor that is gone ends the process. */
void outbox_flush(struct outbox *outbox);

/* outbox_free(outbox): ends the thread; sends nothing. NULL is allowed. */
void outbox_free(struct outbox *outbox);

#endif
