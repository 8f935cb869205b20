#ifndef PGQ_SLOT_H
#define PGQ_SLOT_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "child.h"
#include "hold.h"
#include "options.h"
#include "queue.h"

/*
 * An executor and its holds. The first claims when the executor is free; while it brings as much as it asks for, the
 * other claims ahead, so that the executor works on one batch while the other is settled. The executor is replaced when
 * it dies, and when it has run enough jobs or has grown too large; the holds stay. But jobs that take long keep theirs:
 * then another slot takes the place of this one, which goes when they have ended.
 */
struct slot;

struct slot_events {
  /* The script was loaded; told before the slot looks at settings and queues. */
  void (*ready)(void *owner, const struct message_ready *script);
  /* It could not be loaded, or the executor could not even be started (NULL): the slot tries again later. */
  void (*broken)(void *owner, const char *message, size_t length);
  /* The executor died; see struct child_events. */
  void (*died)(void *owner, const char *cause);
  /* The executor is to be replaced, and jobs in it take long: told again and again, until slot_go() or its end. */
  void (*outlived)(void *owner, struct slot *slot);
  /* A handler called pgq.stop(). */
  void (*stop)(void *owner);
  /* What the holds say; see struct hold_events. */
  void (*found)(void *owner);
  void (*more)(void *owner);
  void (*slept)(void *owner, const struct hold_look *look);
  void (*backed_off)(void *owner, struct queue *queue);
  void (*rested)(void *owner);
};

/* What all slots of a worker share; all of it must outlive them. */
struct slot_start {
  uv_loop_t *loop;
  const struct options *options;
  const struct child_start *child;
  struct queue_list *queues; /* gets those that the script registered */
  struct sweep *sweep;
  struct session_mode *mode;
  struct claim_gate *gate;
  int *together; /* how many suspects may run at a time; at least 1 */
  const struct slot_events *events;
  void *owner;
};

/* slot_new(start, number): `number`, from 1, is for people. Nothing is started. */
struct slot *slot_new(const struct slot_start *start, int number);

/* slot_start_executor(slot): starts the executor, which loads the script. */
void slot_start_executor(struct slot *slot);

/* slot_serve(slot): from now on jobs are claimed, whenever the executor is ready. */
void slot_serve(struct slot *slot);

/* slot_hold(slot, lane): one of its HOLDS_PER_EXECUTOR; NULL before the script was loaded for the first time. */
struct hold *slot_hold(const struct slot *slot, int lane);

/* slot_wake(slot, sweep): see hold_wake(). Whether it claims now. */
bool slot_wake(struct slot *slot, bool sweep);

/* slot_is_asleep(slot): executor and hold are ready, and nothing is here. slot_is_at_rest(slot): no jobs here. */
bool slot_is_asleep(const struct slot *slot);
bool slot_is_at_rest(const struct slot *slot);

/* slot_be_careful(slot, until_ms): see hold_be_careful(). */
void slot_be_careful(struct slot *slot, int64_t until_ms);

/* The way out, in this order: no more claims; kill the executor, at no cost for its job; ask it to leave. */
void slot_finish(struct slot *slot);
void slot_break(struct slot *slot);
void slot_leave(struct slot *slot);

/*
 * slot_go(slot): another slot has its number from now on. It claims nothing more, and its executor leaves when the jobs
 * in it have ended; then it is dead and at rest, and to be freed. slot_is_outgoing(slot): whether that was said.
 */
void slot_go(struct slot *slot);
bool slot_is_outgoing(const struct slot *slot);

/* slot_number(slot): as slot_new() got it. */
int slot_number(const struct slot *slot);

/* slot_is_dead(slot): the executor has ended. */
bool slot_is_dead(const struct slot *slot);

/* slot_free(slot): only when it is dead; the memory goes with the loop's next turn. */
void slot_free(struct slot *slot);

#endif
