#ifndef PGQ_SCRIPT_H
#define PGQ_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "buffer.h"
#include "log.h"
#include "message.h"

/*
 * The one door to Lua: a state with the user's script in it. Nobody else in the executor includes lua.h.
 *
 *     script_new ─ script_load ─ (script_begin ─ script_resume* ─ script_ended)* ─ script_free
 *
 * A task is the coroutine of one job. The caller gives tasks their numbers, which are small, and used again and again.
 */
struct script;

struct script_config {
  const char *conninfo;    /* what pgq.connect() uses without an argument; "" for libpq's own settings */
  const char *const *argv; /* the command line of pgq-lua */
  int argc;
  int script;      /* argv[script] is the file to load, what follows are its arguments */
  uv_loop_t *loop; /* that luv is to use */
  void *owner;
  void (*stop)(void *owner); /* pgq.stop() was called */
  void (*log)(void *owner, enum log_level level, const char *text, size_t length);
  void (*starved)(void *owner);                   /* a callback of luv ended for want of memory */
  bool (*current)(void *owner, uint32_t *number); /* whether a task is running right now, and which */
  void (*ready)(void *owner, uint32_t number);    /* what the task waits for has come; nothing, if it does not wait */
  void (*callback)(void *owner, bool begins);     /* one of luv begins, or has ended */
  void (*watch)(void *owner, uint32_t number);    /* script_ended() is wanted for it */
};

/* script_new(config): a fresh state; `config` must outlive it. NULL when there is no memory for one. */
struct script *script_new(const struct script_config *config);
void script_free(struct script *script);

/*
 * script_load(script, message): runs the file. 0, or -1: then `message` has received why, as text for people that
 * names file and line. A script that registers no queue counts as broken.
 */
int script_load(struct script *script, struct buffer *message);

/* script_describe(script, out): queues and settings, as the fields of FRAME_READY. */
void script_describe(struct script *script, struct buffer *out);

/* script_queue_count(script): how many queues it registered. */
uint32_t script_queue_count(const struct script *script);

/* script_serve(script, pool, prepare): how many connections the tasks share, and whether statements may be prepared. */
void script_serve(struct script *script, uint32_t pool, bool prepare);

/*
 * script_begin(script, number, job, preserve, outcome): calls the queue's handler in the task of that number.
 * `preserve`: a handler that completes the job itself (job->lease is not 0) is to keep its row. Whatever the handler
 * does, short of ending the process, the call returns, and fills *outcome: OUTCOME_NONE when the handler waits. Of the
 * other fields it sets `backoff`, `discard`, `wait_ms` and the texts, which live until the next call of any script_
 * function; it clears the rest. The job's data is copied.
 */
void script_begin(struct script *script, uint32_t number, const struct message_job *job, bool preserve,
                  struct job_outcome *outcome);

/* script_resume(script, number, outcome): continues a task that waited; as script_begin(). */
void script_resume(struct script *script, uint32_t number, struct job_outcome *outcome);

/* Why a task is to end before its time. */
enum script_interrupt { SCRIPT_TIMEOUT, SCRIPT_CANCELLED };

/*
 * script_interrupt(script, number, why, final): the wait of the task is over and raises an error, when it is resumed
 * next. `final`: every further wait raises it too.
 */
void script_interrupt(struct script *script, uint32_t number, enum script_interrupt why, bool final);

/* script_ended(script, number): the task has ended: what it has left behind is cleared away. */
void script_ended(struct script *script, uint32_t number);

/* script_collect(script): collects garbage; when there is time for it. */
void script_collect(struct script *script);

#endif
