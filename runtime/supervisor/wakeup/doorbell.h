#ifndef PGQ_DOORBELL_H
#define PGQ_DOORBELL_H

#include <stdbool.h>
#include <uv.h>

#include "connection.h"
#include "queue.h"

/*
 * The worker's end of the doorbell (see DESIGN.md): while its flags are up, whoever enqueues rings.
 *
 * The flags are advisory locks of the control session, one for each bucket that a queue of ours falls into. Who
 * enqueues raises a flag of his own first ("enqueueing", until his transaction has ended), and then looks at ours; the
 * worker raises its flags first, and then looks at those (the probe). So of any two at least one sees the other.
 *
 * The doorbell is told by its owner, the control connection, what comes in there.
 */
struct doorbell;

struct doorbell_events {
  /* After doorbell_flag(bell, true) and doorbell_probe(): the flags are up. `clear`: nobody is in the middle of
   * enqueueing. */
  void (*raised)(void *owner, bool clear);
  void (*rung)(void *owner);
};

/* doorbell_new(loop, connection, queues, events, owner): all of it must outlive the doorbell. */
struct doorbell *doorbell_new(uv_loop_t *loop, struct connection *connection, const struct queue_list *queues,
                              const struct doorbell_events *events, void *owner);

/* doorbell_open(bell): the session has begun, and is our own: LISTEN. Flags that are wanted are raised. */
void doorbell_open(struct doorbell *bell);

/* doorbell_down(bell): the session is gone, and with it the flags. */
void doorbell_down(struct doorbell *bell);

/* doorbell_result(bell, statement, result): as the connection told. False for a statement that is not the doorbell's.
 */
bool doorbell_result(struct doorbell *bell, enum statement statement, const PGresult *result);

/* doorbell_notified(bell, payload): a notification has come in. */
void doorbell_notified(struct doorbell *bell, const char *payload);

/* doorbell_flag(bell, up): the flags are to be up, or down. False: they cannot go up, nobody would be heard. */
bool doorbell_flag(struct doorbell *bell, bool up);

/* doorbell_probe(bell): the flags are up: looks again whether somebody is enqueueing; raised() follows. */
void doorbell_probe(struct doorbell *bell);

/* doorbell_table(bell): the oid of pgq_jobs; 0 while it is not known. */
int64_t doorbell_table(const struct doorbell *bell);

/* doorbell_free(bell): NULL is allowed. */
void doorbell_free(struct doorbell *bell);

#endif
