#ifndef PGQ_PROTOCOL_H
#define PGQ_PROTOCOL_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * What supervisor and executor say to each other, on the socket that is the executor's descriptor 3. The life of an
 * executor, seen from the wire:
 *
 *     supervisor                     executor
 *     CONFIGURE ───────────────────►            once, first
 *               ◄─────────────────── READY      the script loaded; or
 *               ◄─────────────────── BROKEN     it did not, and the executor leaves with status 1
 *     SERVE     ───────────────────►            once, then: what was resolved of its settings
 *     JOBS      ───────────────────►            any number of batches
 *               ◄─────────────────── OUTCOMES   one outcome for every job, in any grouping
 *     RECALL    ───────────────────►            jobs not started come back as OUTCOME_UNRUN
 *     CANCEL    ───────────────────►            a job that has begun is to end
 *               ◄─────────────────── STOP       a handler called pgq.stop()
 *               ◄─────────────────── LOG        a line for the log
 *     LEAVE     ───────────────────►            (or the end of the socket) the executor exits with status 0
 */
enum frame_type {
  FRAME_CONFIGURE = 1, /* text conninfo; u64 most memory in bytes, 0 for no limit; u32 index of the script in argv; u32
                          count, texts argv */
  FRAME_JOBS,     /* u32 batch; u32 count, jobs: u32 index in the batch, u32 position (the batch's jobs are sent, and
                     begun, in the order of their positions, from 1), u32 queue (as registered, from 0), i64 id,
                     u32 attempt, u32 retries left, f64 created_at, f64 run_after (Unix seconds), i64 token of the lease
                     under which the handler itself is to complete it, 0 for none; bytes data */
  FRAME_RECALL,   /* u32 batch; u32 queue or QUEUE_ALL */
  FRAME_LEAVE,    /* nothing */
  FRAME_READY,    /* u32 count, queues: text name, u8 preserve_completed, u8 discard_failed (enum choice),
                     i64 timeout in ms, -1 for none said; u32 concurrency, 0 for none said; u8 transactional;
                     u32 count, settings: text name, text value */
  FRAME_BROKEN,   /* bytes message */
  FRAME_OUTCOMES, /* outcomes to the frame's end: u32 batch, u32 index in the batch, u8 enum outcome, u8 backoff,
                     u8 discard, u8 waited, i64 wait in ms (-1 for none), u64 duration in µs, u64 of it busy, bytes
                     error, bytes traceback */
  FRAME_STOP,     /* nothing */
  FRAME_SERVE,    /* u32 concurrency; u32 connections of the pool; u8 whether statements may be prepared; u32 count,
                     queues as registered: u32 concurrency, 0 for no limit of its own, i64 timeout in ms, 0 for none,
                     u8 preserve_completed */
  FRAME_CANCEL,   /* u32 batch; u32 index in the batch */
  FRAME_LOG,      /* u8 enum log_level; bytes message */
};

enum { QUEUE_ALL = 0xffffffff };

/* The longest frame either end sends: down, the largest job (256 MiB) and its head; up, the names of
 * all queues. */
#define FRAME_MOST_DOWN ((size_t)300 << 20)
#define FRAME_MOST_UP ((size_t)64 << 20)

/* The longest data of a job. */
enum { JOB_DATA_MOST = 256 << 20 };

/* Error messages are cut to this many bytes; tracebacks, and what handlers have to say for the log, too. */
enum { ERROR_TEXT_MOST = 10 * 1024 };

/* So many transactional jobs may be in flight in an executor: each has a connection of the pool, and one is left. */
#define TRANSACTIONAL_MOST(pool) ((pool) > 1 ? (pool)-1 : 1)

enum outcome {
  OUTCOME_NONE,     /* not known yet */
  OUTCOME_COMPLETE, /* the handler succeeded */
  OUTCOME_FAIL,     /* it failed: error says why */
  OUTCOME_UNRUN,    /* it was never started: the job goes back as if it had not been claimed */
  OUTCOME_SNOOZE,   /* it is to run again after a wait, and this was no attempt */
  OUTCOME_SETTLED,  /* the handler succeeded, and its own transaction has completed the job */
  OUTCOME_LEASE,    /* the supervisor's own, never on the wire: it goes on running, and is to be leased */
  OUTCOME_SUSPECT,  /* the same: its executor died, perhaps because of it; it goes back, to run alone */
};

/* A setting that the script may leave to the worker. */
enum choice { CHOICE_UNSET, CHOICE_NO, CHOICE_YES };

/* The descriptors an executor is born with, beside 0, 1 and 2. */
enum { EXECUTOR_SOCKET = 3, EXECUTOR_PAGE = 4 };

/*
 * Each executor has so many holds, which take turns: one claims and settles while it works on the other's batch. The
 * batches of a hold have every second number, so that batch % HOLDS_PER_EXECUTOR tells whose it is.
 */
enum { HOLDS_PER_EXECUTOR = 2 };

/* What is said of the batches of one hold; see below. */
struct page_lane {
  _Atomic uint64_t begun;   /* the last job that was begun: PAGE_TASK(batch, position) */
  _Atomic uint32_t revoked; /* jobs of this batch, and of earlier ones, must not begin any more */
};

/*
 * One page shared by supervisor and executor (descriptor 4), readable after the executor has died.
 *
 * The supervisor can take back a batch's jobs that have not begun, even from an executor that listens to nobody: it
 * writes `revoked` and then reads `begun`; the executor writes `begun` before it begins a job, and then reads
 * `revoked`. Whatever the order, both know of every job whether it runs.
 */
struct shared_page {
  _Atomic int64_t current_job;  /* id of the job whose handler is running right now, 0 for none */
  _Atomic int64_t started_us;   /* clock_us() when the job began */
  _Atomic int64_t resumed_us;   /* clock_us() when its handler last began, or went on after a wait */
  _Atomic int64_t kill_at_us;   /* when it has taken too long, if it has not waited by then; 0: never */
  _Atomic int64_t callback_us;  /* clock_us() when the callback of luv began that runs right now, 0 for none */
  _Atomic uint32_t all_waiting; /* 1: every task waits, and no job can begin, until an event comes in */
  struct page_lane lanes[HOLDS_PER_EXECUTOR]; /* by batch % HOLDS_PER_EXECUTOR */
};

#define PAGE_TASK(batch, position) ((uint64_t)(batch) << 32 | (position))

#endif
