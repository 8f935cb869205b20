#ifndef PGQ_SLOT_STATE_H
#define PGQ_SLOT_STATE_H

#include "slot.h"

/*
 * The inside of a slot, for its own files only: slot.c has the life of the executor, slot_holds.c answers the
 * questions of the holds and takes their reports, slot_isolation.c decides when jobs run alone.
 */

/* The life of the slot's executor. Only set_state() in slot.c writes it. */
enum slot_state {
  SLOT_DEAD,     /* no process; `timer` runs if another is to be started */
  SLOT_LOADING,  /* the process loads the script */
  SLOT_BROKEN,   /* the process could not load the script, has reported this, and exits */
  SLOT_READY,    /* the process runs jobs */
  SLOT_RETIRING, /* the process is to be replaced: it gets no more jobs, and `timer` runs */
  SLOT_EXITING,  /* the same, and it has no jobs and was asked to exit; `exit_checks` is valid */
};

/* Whether the executor runs jobs that must run alone. In all states but the first one, start.isolation->slot is this
 * slot, and only the first hold claims. slot_isolation.c writes it. */
enum slot_isolation {
  ISOLATION_NONE,
  ISOLATION_WAITING,  /* until the executor has no other job; `timer` runs: another executor may have to be started */
  ISOLATION_CLAIMING, /* only these jobs are claimed */
  ISOLATION_RUNNING,  /* they run */
};

/* The stage of the slot's life. It only rises. */
enum slot_stage {
  SLOT_PREPARING, /* the database has not been reached: nothing is claimed */
  SLOT_SERVING,
  SLOT_FINISHING, /* the slot makes no more claims and starts no executor */
  SLOT_BREAKING,  /* the executor was killed; its jobs go back and lose no attempt */
  SLOT_LEAVING,   /* the executor was asked to exit */
};

/* The slot's holds: the first one claims for a free executor, the others claim ahead. */
enum { SLOT_FIRST_HOLD, SLOT_AHEAD_HOLD };

struct slot {
  struct slot_start start;
  int number;
  struct child *child;
  struct sources *sources;                /* what its executors run; NULL: the next one reads the files */
  struct hold *holds[HOLDS_PER_EXECUTOR]; /* NULL until a script was loaded */
  struct queue **queues;                  /* as the executor registered them */
  uint32_t queue_count;
  enum slot_state state;
  enum slot_stage stage;
  char version[VERSION_SIZE]; /* of the script that the executor has loaded */
  bool replaced;              /* another slot has taken its place; it ends when its jobs have ended */

  enum slot_isolation isolation;
  int64_t isolated_ms; /* when jobs began to run alone */

  uv_timer_t timer;      /* dead: starts another executor; ready: see ISOLATION_WAITING; retiring,
                          exiting: checks every second */
  uv_timer_t idle_timer; /* closes holds that claim ahead and have had no jobs for a while */
  bool died;             /* dead: the executor was not to end */
  int64_t started_ms;
  int64_t restart_wait_ms;
  int64_t memory_checked_ms;
  int64_t jobs;    /* number of jobs that this executor has run */
  int exit_checks; /* exiting: checks left before the process is killed */
};

/* The slot's callbacks for its holds; their owner is the slot. */
extern const struct hold_events slot_hold_events;

/* slot_let_exit(slot): asks a retiring executor, which has no jobs any more, to exit. */
void slot_let_exit(struct slot *slot);

/* slot_retire(slot): a ready executor gets no more jobs, and exits as soon as the holds have none of its jobs. */
void slot_retire(struct slot *slot);

/* slot_end_isolation(slot): the slot does not run jobs alone any more. Does nothing if it does not. */
void slot_end_isolation(struct slot *slot);

/* slot_take_isolation(slot): a slot whose executor is ready takes the place of one that waited in vain, if there was
 * one. */
void slot_take_isolation(struct slot *slot);

/* The answers to the holds about isolation; see struct hold_events. slot_isolation_capacity() returns INT32_MAX if
 * other rules decide. */
int32_t slot_isolation_capacity(struct slot *slot, const struct hold *hold);
enum claim_deaths slot_claims_deaths(const struct slot *slot, const struct hold *hold);
bool slot_may_run_alone(struct slot *slot, const struct hold *hold);
void slot_turned_away(struct slot *slot);

/* slot_has_leased(slot): whether a leased job runs in the executor. */
bool slot_has_leased(const struct slot *slot);

/* slot_ahead_is_at_rest(slot): the holds that claim ahead have no jobs. */
bool slot_ahead_is_at_rest(const struct slot *slot);

#endif
