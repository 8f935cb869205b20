#ifndef PGQ_CONTROL_H
#define PGQ_CONTROL_H

#include <stdbool.h>
#include <uv.h>

#include "connection.h"
#include "options.h"
#include "queue.h"

/*
 * The control connection: checks that the tables are there, keeps this
 * worker's row in pgq_workers while it runs, looks for the rows of workers that vanished, extends the leases of all
 * holds, and hears the doorbell, and who cancels jobs.
 */
struct control;

struct control_events {
  /* The database is reached and has what the worker needs. Once. */
  void (*checked)(void *owner);
  /* It lacks something: `what` is "table pgq_jobs" or "column pgq_jobs.attempt". */
  void (*lacking)(void *owner, const char *what);
  /* A worker vanished without a word: its row was still there, and its session gone. */
  void (*vanished)(void *owner, const char *host, int pid);
  /* How many leases there may be; and which: their ids, tokens, and how long each is to last from now, in ms (0: it is
   * only asked for), into arrays that have so much room. Returns how many there are. */
  int (*lease_count)(void *owner);
  int (*leases)(void *owner, int64_t *ids, int64_t *tokens, int64_t *lasts);
  /* One of them is no longer ours. */
  void (*lease_lost)(void *owner, int64_t id);
  /* Somebody has cancelled a job that was leased. */
  void (*cancelled)(void *owner, int64_t id);
  /* What the doorbell says; see struct doorbell_events. */
  void (*raised)(void *owner, bool clear);
  void (*rung)(void *owner);
  /* After control_leave(): the row is gone, or could not be removed in time. */
  void (*left)(void *owner);
};

/* control_new(loop, options, queues, mode, events, owner): all of it must outlive the control. Connects at once. */
struct control *control_new(uv_loop_t *loop, const struct options *options, const struct queue_list *queues,
                            struct session_mode *mode, const struct control_events *events, void *owner);

/* control_flag(control, up), control_probe(control): see doorbell_flag() and doorbell_probe(). */
bool control_flag(struct control *control, bool up);
void control_probe(struct control *control);

/* control_leave(control): removes the row; left() follows, within two seconds. */
void control_leave(struct control *control);

/* control_free(control): NULL is allowed. */
void control_free(struct control *control);

#endif
