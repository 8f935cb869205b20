#ifndef PGQ_CHILD_H
#define PGQ_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "buffer.h"
#include "message.h"
#include "protocol.h"
#include "sources.h"

/*
 * One executor process, from the supervisor's side. The supervisor sends it frames, takes frames from it, and reads the
 * shared page. It does not trust the process, and kills it when a malformed frame comes in.
 *
 *     child_start ─► sources ─► ready | broken ─► (outcome | stop | replace)* ─► died ─ child_free
 *
 * Every process that was started ends with died(), exactly once. Then the child may be freed or started again.
 */
struct child;

/* How a process died. The texts are valid during the call. */
struct child_death {
  bool has_culprit;  /* a job was running, and is known */
  int64_t culprit;   /* its id, if `has_culprit`; any value */
  bool orderly;      /* the process was asked to leave, and exited with status 0 */
  bool alone;        /* only one job had begun and not ended; the slot, which counts jobs, sets this */
  int64_t ran_us;    /* for how long the culprit ran */
  const char *cause; /* "was killed by SIGSEGV" */
  const char *run;   /* about the culprit: "for 1.5 s, peak memory 80 MB" */
};

struct child_events {
  /* The files that the process has read. Called only if child_start() gave none. The list may be taken over. */
  void (*sources)(void *owner, struct message_sources *files);
  /* The script has loaded. `script` and its texts are valid during the call. */
  void (*ready)(void *owner, const struct message_ready *script);
  void (*broken)(void *owner, const char *message, size_t length);
  /* Returns false for an outcome that no job can have: the process is then killed. The texts are valid during the
   * call. */
  bool (*outcome)(void *owner, const struct job_outcome *outcome);
  /* All outcomes of one frame have been reported. */
  void (*outcomes_end)(void *owner);
  /* A handler has called pgq.stop(). */
  void (*stop)(void *owner);
  /* The executor begins no more jobs, since a job has changed settings that cannot be set back, whose names are in
   * `left`. */
  void (*replace)(void *owner, int64_t job, const char *left);
  void (*died)(void *owner, const struct child_death *death);
};

struct child_start {
  const char *conninfo; /* for pgq.enqueue in handlers; may be NULL */
  int argc;             /* the command line, of which argv[script] is the script */
  char **argv;
  int script;
  const struct output_pipes *output; /* for its stdout and stderr */
  int64_t max_memory;                /* bytes an executor may take; 0: no limit */
};

/* child_new(loop, start, events, owner): does not start the process yet. `start`, its texts and `events` must outlive
 * the child. */
struct child *child_new(uv_loop_t *loop, const struct child_start *start, const struct child_events *events,
                        void *owner);

/* child_start(child, sources): starts the process of a child that is not alive. It runs the sources, which are read
 * during the call only; NULL: it reads the files. Returns 0, or -1 after logging the reason. */
int child_start(struct child *child, const struct sources *sources);

/* child_serve(child, serve): sends the settings. To be called once, before any jobs are sent. */
void child_serve(struct child *child, const struct message_serve *serve);

/* child_send(child, frames): sends the bytes of `frames`, which becomes empty. If the child is dead, they are
 * discarded. */
void child_send(struct child *child, struct buffer *frames);

/* child_recall(child, batch, queue): asks for the jobs of the batch and queue (or QUEUE_ALL) that have not begun. They
 * come back as OUTCOME_UNRUN. */
void child_recall(struct child *child, uint32_t batch, uint32_t queue);

/* child_cancel(child, batch, index): asks the executor to end that job, which may have begun. Its outcome follows. */
void child_cancel(struct child *child, uint32_t batch, uint32_t index);

/* child_leave(child): asks the process to exit when its current job has ended. The caller kills the process if it takes
 * too long. */
void child_leave(struct child *child);

/*
 * child_kill(child, cause): sends SIGKILL to the process and all others of its group. died() follows, with `cause`
 * ("was killed at its time limit"), or with the signal's name if `cause` is NULL.
 */
void child_kill(struct child *child, const char *cause);

/* child_retire(child): from now on the child is not ready, so that it gets no more jobs. The caller calls child_leave()
 * later. */
void child_retire(struct child *child);

/* child_begin_batch(child, batch): jobs of the batch may begin, and those of earlier batches of the same hold must not.
 */
void child_begin_batch(struct child *child, uint32_t batch);

/* child_begun(child, batch): the position of the last job of the batch that has begun, 0 for none. During died(), if
 * the process has written over the page, it is UINT32_MAX: all jobs of the batch may have begun. */
uint32_t child_begun(const struct child *child, uint32_t batch);

/*
 * child_has_begun(child, batch, position): whether the executor has passed that position: it has begun the job, or has
 * found its batch revoked.
 */
bool child_has_begun(const struct child *child, uint32_t batch, uint32_t position);

/*
 * child_revoke(child, batch): forbids the jobs of the batch that have not begun to begin. Returns the position of the
 * last job that has begun (it may have ended since), 0 for none.
 */
uint32_t child_revoke(struct child *child, uint32_t batch);

/* child_current(child, id, ran_ms): sets *id to the job whose handler runs now, and *ran_ms to the time since the job
 * began. Returns false if no handler runs. */
bool child_current(const struct child *child, int64_t *id, int64_t *ran_ms);

/* child_busy_ms(child): for how long the current handler or a callback of luv has run without a wait; 0 if neither
 * runs. */
int64_t child_busy_ms(const struct child *child);

/* child_is_overdue(child): whether the current handler has run for longer than its time limit. */
bool child_is_overdue(const struct child *child);

/* child_is_all_waiting(child): whether every task of the executor waits, and no job can begin until an event comes
 * in. */
bool child_is_all_waiting(const struct child *child);

/* child_memory(child): the bytes of memory that the process has now; 0 if that is not known. */
int64_t child_memory(const struct child *child);

/* child_check_process(child): kills a stuck process, and reads its peak memory for a report of its death. To be called
 * regularly while the process has jobs. */
void child_check_process(struct child *child);

/* child_is_alive(child): true from child_start() to died(). child_is_ready(child): true from ready() until the child
 * dies, retires or leaves. child_pid(child): the process number; 0 if it is not alive. */
bool child_is_alive(const struct child *child);
bool child_is_ready(const struct child *child);
int child_pid(const struct child *child);

/* child_free(child): frees a child that is not alive. NULL is allowed. */
void child_free(struct child *child);

#endif
