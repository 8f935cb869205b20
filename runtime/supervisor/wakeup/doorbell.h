#ifndef PGQ_DOORBELL_H
#define PGQ_DOORBELL_H

#include <stdbool.h>
#include <uv.h>

#include "connection.h"
#include "queue.h"
#include "wakeup.h"

/*
 * The worker's part of the doorbell (see DESIGN.md): while the worker's flags are up, every session that enqueues a job
 * for the worker rings, which means that it sends a NOTIFY.
 *
 * The flags are advisory locks of the control session, one for each bucket into which the names of the worker's queues
 * are hashed. A session that enqueues takes a lock of its own first ("enqueueing", until its transaction ends), and
 * then looks for flags. The worker raises its flags first, and then looks for those locks: this is the probe. So at
 * least one of the two sees the other.
 *
 * The control connection sends the doorbell's statements and passes their results on. The doorbell reports to the
 * wakeup: wakeup_raised() after doorbell_flag(bell, true) and doorbell_probe(), wakeup_rung_by() when a session has
 * rung, wakeup_answered() when another worker has looked since.
 */
struct doorbell;

/* doorbell_new(loop, connection, worker_id, queues, wakeup): all of them must outlive the doorbell. `worker_id` is the
 * id of the worker's row, or 0 while there is none. */
struct doorbell *doorbell_new(uv_loop_t *loop, struct connection *connection, const int64_t *worker_id,
                              const struct queue_list *queues, struct wakeup *wakeup);

/* doorbell_open(bell): starts listening, and then raises the flags if they are wanted. To be called when the connection
 * has come up, if its session is not shared. */
void doorbell_open(struct doorbell *bell);

/* doorbell_queues_changed(bell): the worker serves other queues than before. If some are new, the session is given up:
 * the next one raises flags for all. */
void doorbell_queues_changed(struct doorbell *bell);

/* doorbell_down(bell): the session was lost, and its flags with it. */
void doorbell_down(struct doorbell *bell);

/* doorbell_result(bell, statement, result): a result has come in. Returns false for a statement that is not the
 * doorbell's. */
bool doorbell_result(struct doorbell *bell, enum statement statement, const PGresult *result);

/* doorbell_notified(bell, payload, pid): a notification has come in, which the server process `pid` has sent. */
void doorbell_notified(struct doorbell *bell, const char *payload, int pid);

/* doorbell_flag(bell, up): raises or lowers the flags. Returns false if a ring cannot reach the worker: then no flag is
 * raised, and wakeup_raised() is not called. */
bool doorbell_flag(struct doorbell *bell, bool up);

/* doorbell_probe(bell): if the flags are up, looks again for sessions that are enqueueing; wakeup_raised() follows. */
void doorbell_probe(struct doorbell *bell);

/* doorbell_ask_peers(bell): asks which other workers share the rings; see peers.h. Does nothing while the doorbell is
 * not open, or the worker has no row. */
void doorbell_ask_peers(struct doorbell *bell);

/* doorbell_answer(bell, ring): tells the peers that no job of that ring, or before it, is left. */
void doorbell_answer(struct doorbell *bell, int64_t ring);

/* doorbell_check_table(bell): asks whether pgq_jobs is still the same table, with the same trigger. If it was created
 * anew or swapped, the session is given up: the flags are advisory locks on the oid of the old table. */
void doorbell_check_table(struct doorbell *bell);

/* doorbell_free(bell): NULL is allowed. */
void doorbell_free(struct doorbell *bell);

#endif
