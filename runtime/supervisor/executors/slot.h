#ifndef PGQ_SLOT_H
#define PGQ_SLOT_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "child.h"
#include "counts.h"
#include "hold.h"
#include "options.h"
#include "queue.h"
#include "wakeup.h"

/*
 * A slot: an executor and its holds. The first hold claims when the executor is free. While its claims bring as many
 * jobs as they ask for, the other hold claims ahead, so that the executor works on one batch while the other one is
 * settled.
 *
 * The executor is replaced when it dies, when it has run its number of jobs, and when it has grown too large; the holds
 * stay. If jobs of the old executor take long, the executor and its slot stay: another slot then takes this slot's
 * place, and this one ends when its jobs have ended.
 */
struct slot;

struct slot_events {
  /* The executor has loaded the script. Called before the slot reads the script's settings and queues. */
  void (*ready)(void *owner, struct slot *slot, const struct message_ready *script);
  /* The script could not be loaded, or the executor could not be started (message NULL). The slot tries again later. */
  void (*broken)(void *owner, struct slot *slot, const char *message, size_t length);
  /* The executor died; see struct child_events. */
  void (*died)(void *owner, struct slot *slot, const char *cause);
  /* The executor is to be replaced, and its jobs take long. Called every second until slot_be_replaced() is called or
   * the executor ends. */
  void (*outlived)(void *owner, struct slot *slot);
  /* A handler called pgq.stop(). */
  void (*stop)(void *owner);
  /* See struct hold_events. */
  void (*backed_off)(void *owner, struct queue *queue);
  void (*rested)(void *owner);
};

/*
 * Jobs that have seen several deaths run in an executor that has no other jobs (deaths.h), in one executor of the
 * worker at a time. Zeroed: no slot runs such jobs.
 */
struct isolation {
  struct slot *slot;     /* the slot that runs them, or waits until its executor is free for them; NULL: none */
  bool replaced;         /* that slot's jobs took too long: the slot that takes its place runs them */
  int64_t rest_until_ms; /* until this time of clock_ms() no slot begins, so that other jobs get most of the time */
};

/* The data that all slots of a worker share. Everything it points to must outlive them. */
struct slot_start {
  uv_loop_t *loop;
  const struct options *options;
  const struct child_start *child;
  struct sources **sources;  /* of the version that new slots run; NULL until an executor has read them */
  struct queue_list *queues; /* receives the queues that the script registered */
  struct sweep *sweep;
  struct session_mode *mode;
  struct claim_gate *gate;
  const struct frontier *frontier;
  const struct history *history;
  struct counts *counts;
  struct wakeup *wakeup;
  struct isolation *isolation;
  const struct slot_events *events;
  void *owner;
};

/* slot_new(start, number): makes a slot without an executor. `number`, from 1, appears in log lines. */
struct slot *slot_new(const struct slot_start *start, int number);

/* slot_start_executor(slot): starts the executor, which loads the script. */
void slot_start_executor(struct slot *slot);

/* slot_read_sources(slot): the next executor of the slot reads the files of the script anew. slot_sources(slot): what
 * the executor runs; NULL until it has read the files. */
void slot_read_sources(struct slot *slot);
struct sources *slot_sources(const struct slot *slot);

/* slot_serve(slot): from now on jobs are claimed whenever the executor is ready. */
void slot_serve(struct slot *slot);

/* slot_hold(slot, lane): one of its HOLDS_PER_EXECUTOR holds; NULL before the script was loaded for the first time. */
struct hold *slot_hold(const struct slot *slot, int lane);

/* slot_wake(slot, sweep): see hold_wake(). Returns whether the slot claims now. */
bool slot_wake(struct slot *slot, bool sweep);

/* slot_is_at_rest(slot): whether the slot has no jobs. slot_is_asleep(slot): whether its executor and hold are ready as
 * well. */
bool slot_is_asleep(const struct slot *slot);
bool slot_is_at_rest(const struct slot *slot);

/* slot_is_useless(slot): whether the slot has no jobs, and cannot get any: it lacks a session or an executor. */
bool slot_is_useless(const struct slot *slot);

/* slot_is_cut_off(slot): whether those of its holds that have jobs have no session, so that nothing can be written. */
bool slot_is_cut_off(const struct slot *slot);

/* The stages of a stop, in this order. slot_finish(): no more claims. slot_break(): kills the executor; its jobs go
 * back and lose no attempt. slot_leave(): asks the executor to exit. */
void slot_finish(struct slot *slot);
void slot_break(struct slot *slot);
void slot_leave(struct slot *slot);

/* slot_kill_executor(slot, cause): kills the executor, which is replaced as one that died. */
void slot_kill_executor(struct slot *slot, const char *cause);

/*
 * slot_be_replaced(slot): another slot has its number now. This one claims nothing more, and its executor exits when
 * its jobs have ended; then it is dead and at rest, and can be freed. slot_is_replaced(slot): whether
 * slot_be_replaced() was called.
 */
void slot_be_replaced(struct slot *slot);
bool slot_is_replaced(const struct slot *slot);

/* slot_has_session(slot): whether its first hold has a session. The slot may claim, and have run its last job already.
 */
bool slot_has_session(const struct slot *slot);

/* slot_give_way(slot): another slot can take over now: slot_be_replaced(), and the executor begins no further job. */
void slot_give_way(struct slot *slot);

/* slot_number(slot): the number given to slot_new(). */
int slot_number(const struct slot *slot);

/* slot_is_dead(slot): whether there is no executor process. slot_pid(slot): its process number; 0 if there is none. */
bool slot_is_dead(const struct slot *slot);
int slot_pid(const struct slot *slot);

/* slot_free(slot): frees a slot that is dead. The memory is freed in the loop's next turn. */
void slot_free(struct slot *slot);

#endif
