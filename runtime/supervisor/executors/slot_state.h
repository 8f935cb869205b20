#ifndef PGQ_SLOT_STATE_H
#define PGQ_SLOT_STATE_H

#include "slot.h"

/* What a slot is made of: for its two files only. slot.c is about the executor, slot_claims.c about the claims. */

enum { FIRST, AHEAD };

struct slot {
  struct slot_start start;
  int number;
  struct child *child;
  struct hold *holds[HOLDS_PER_EXECUTOR]; /* the first claims for the executor, the others ahead; NULL at first */
  struct queue **queues;                  /* as the executor registered them */
  uint32_t queue_count;
  bool serving;
  bool alone;     /* a job is to run, or runs, with nothing beside it */
  bool has_group; /* the jobs that came last were suspects, and none has done harm */
  bool finishing, breaking, leaving;
  bool broken;   /* the executor could not load the script, and ends: that has been told */
  bool outgoing; /* another has taken its place */
  int64_t careful_until_ms;
  int64_t found_ms;   /* when a claim last brought jobs */
  uv_timer_t restart; /* of a dead executor; of one that retires, till its end */
  uv_timer_t idle;    /* closes holds that claim ahead */
  int64_t started_ms, restart_wait_ms;
  int64_t jobs;  /* that the executor has run */
  bool retiring; /* it has run enough of them, or has grown: it leaves when the hold is at rest */
  int left;      /* it was asked to leave: how often one waits another second for its exit */
  int64_t memory_seen_ms;
};

/* What the holds of a slot call; the owner is the slot. */
extern const struct hold_events slot_hold_events;

/* slot_let_go(slot): asks the executor that retires, and has no jobs any more, to leave. */
void slot_let_go(struct slot *slot);

/* slot_others_rest(slot): no jobs are here but those of the first hold. */
bool slot_others_rest(const struct slot *slot);

#endif
