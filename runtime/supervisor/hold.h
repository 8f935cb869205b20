#ifndef PGQ_HOLD_H
#define PGQ_HOLD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "child.h"
#include "claim.h"
#include "options.h"
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
 * No hold lives longer than the hold limit: then what is done is settled, jobs not begun go back, and what still runs
 * becomes leased (lease.h) until its outcome is there.
 *
 * An act that failed, or whose session was lost, leaves outcomes that nobody has written: they are rescued, by locking
 * again those of their rows that are as they were, and settling these.
 */
struct hold;

struct hold_events {
  /* There may be jobs for other holds: a claim brought some, or some went back. */
  void (*more)(void *owner);
  /* Nothing is due (or nothing may be claimed): the hold sleeps until hold_wake(). */
  void (*slept)(void *owner, const struct hold_look *look);
  /* A handler asked for backoff: jobs of the queue that have not started are to come back. */
  void (*backed_off)(void *owner, struct queue *queue);
  /* Something ended: hold_is_at_rest() may have become true. */
  void (*rested)(void *owner);
};

/* What a hold is made with: all of it must outlive the hold. */
struct hold_start {
  uv_loop_t *loop;
  const struct options *options;
  struct child *child;
  const struct hold_events *events;
  void *owner;
};

/* hold_new(name, start): the name is for log lines, and copied. */
struct hold *hold_new(const char *name, const struct hold_start *start);

/* hold_serve(hold, queues, count): the queues that its executor registered, in the executor's order; copied. */
void hold_serve(struct hold *hold, struct queue *const *queues, uint32_t count);

/* hold_open(hold): connects; once connected it claims. */
void hold_open(struct hold *hold);

/* hold_wake(hold): claims, if it sleeps and its executor is ready and a queue is not paused. Whether it did. */
bool hold_wake(struct hold *hold);

/* hold_be_careful(hold, until_ms): up to that clock_ms(), one job at a time is claimed, and leased before it runs. */
void hold_be_careful(struct hold *hold, int64_t until_ms);

/* What the executor said; see struct child_events. */
bool hold_outcome(struct hold *hold, const struct child_outcome *outcome);
void hold_outcomes_end(struct hold *hold);

/*
 * hold_child_died(hold, death): the culprit fails with the cause, as a whole sentence; the others go back. Without a
 * culprit, those that were in flight become suspects, which run alone next time; without a cause, all just go back.
 */
void hold_child_died(struct hold *hold, const struct child_death *death);

/* hold_recall(hold, queue): jobs of the queue (NULL: of all) that have not started go back. */
void hold_recall(struct hold *hold, const struct queue *queue);

/* hold_stop(hold): no more claims; jobs not started go back, running ones are settled when they end. */
void hold_stop(struct hold *hold);

/* hold_leases(hold, ids, tokens, most): the leases to extend, up to `most`; returns how many were written. */
int hold_leases(const struct hold *hold, int64_t *ids, int64_t *tokens, int most);
int hold_lease_count(const struct hold *hold);

/* hold_lease_lost(hold, id): somebody else has the job now. If it still runs here, its executor is killed shortly. */
void hold_lease_lost(struct hold *hold, int64_t id);

/* hold_is_at_rest(hold): no jobs here and nothing under way. hold_is_asleep(hold): connected, and nothing was due. */
bool hold_is_at_rest(const struct hold *hold);
bool hold_is_asleep(const struct hold *hold);

/* hold_free(hold): closes the connection at once; the server gives back what it held. NULL is allowed. */
void hold_free(struct hold *hold);

#endif
