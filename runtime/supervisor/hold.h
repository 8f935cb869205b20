#ifndef PGQ_HOLD_H
#define PGQ_HOLD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "child.h"
#include "queue.h"

/*
 * A hold: one connection whose open transaction holds the locks of the jobs claimed in it, while their handlers run in
 * the executor. Claiming writes nothing; the outcomes are written, and the transaction committed, when all are known.
 * The next claim goes out in the same round trip.
 *
 *     down ─► idle ─► claiming ─► running ─► claiming (settle, commit, begin, claim) ─► running …
 *              ▲          └─ nothing due ─► closing (commit, look) ─┐
 *              └────────────────────────────────────────────────────┘
 *
 * A lost session loses the locks, and with them the batch: its jobs are due again, for anybody.
 */
struct hold;

/* What a hold saw before it went to sleep. */
struct hold_look {
  bool due_locked; /* a job is due that somebody holds */
  bool due_paused; /* a job is due in a queue that is paused here */
  int64_t wait_ms; /* until the next job falls due; -1: none is known */
};

struct hold_events {
  /* A claim brought jobs: there may be more for others. */
  void (*claimed)(void *owner);
  /* Nothing is due (or nothing may be claimed): the hold sleeps until hold_wake(). */
  void (*slept)(void *owner, const struct hold_look *look);
  /* A handler asked for backoff: jobs of the queue that have not started are to come back. */
  void (*backed_off)(void *owner, struct queue *queue);
  /* Something ended: hold_is_at_rest() may have become true. */
  void (*rested)(void *owner);
};

/* hold_new(loop, name, conninfo, child, events, owner): the texts are copied; the child must outlive the hold. */
struct hold *hold_new(uv_loop_t *loop, const char *name, const char *conninfo, struct child *child,
                      const struct hold_events *events, void *owner);

/* hold_serve(hold, queues, count): the queues that its executor registered, in the executor's order; copied. */
void hold_serve(struct hold *hold, struct queue *const *queues, uint32_t count);

/* hold_open(hold): connects; once connected it claims. */
void hold_open(struct hold *hold);

/* hold_wake(hold): claims, if it sleeps and its executor is ready and a queue is not paused. Whether it did. */
bool hold_wake(struct hold *hold);

/* What the executor said; see struct child_events. */
bool hold_outcome(struct hold *hold, const struct child_outcome *outcome);
void hold_outcomes_end(struct hold *hold);

/* hold_child_died(hold, culprit, cause): the culprit, if there is one, fails with the cause; the others go back. */
void hold_child_died(struct hold *hold, int64_t culprit, const char *cause);

/* hold_recall(hold, queue): jobs of the queue that have not started go back. */
void hold_recall(struct hold *hold, const struct queue *queue);

/* hold_stop(hold): no more claims; jobs not started go back, running ones are settled when they end. */
void hold_stop(struct hold *hold);

/* hold_is_at_rest(hold): no jobs here and nothing under way. hold_is_asleep(hold): connected, and nothing was due. */
bool hold_is_at_rest(const struct hold *hold);
bool hold_is_asleep(const struct hold *hold);

/* hold_free(hold): closes the connection at once; the server gives back what it held. NULL is allowed. */
void hold_free(struct hold *hold);

#endif
