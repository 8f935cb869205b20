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
 * The user's script in a Lua state. Only the files script*.c include lua.h; the rest of the executor calls these
 * functions.
 *
 *     script_new ─ script_load ─ script_serve ─ (script_begin ─ script_resume* ─ script_ended)* ─ script_free
 *
 * A task is the coroutine of one job. The caller numbers the tasks from 0, and uses the number of a task that has ended
 * again.
 */
struct script;

struct script_config {
  const char *conninfo;    /* for pgq.connect() without an argument; "": libpq's own settings */
  const char *const *argv; /* the command line of pgq-lua */
  int argc;
  int script;                            /* argv[script] is the file to load; the words after it are its arguments */
  const struct message_sources *sources; /* run these instead of reading the files; an empty list: none */
  uv_loop_t *loop;                       /* the loop for luv */
  void *owner;                           /* first argument of the functions below */
  void (*stop)(void *owner);             /* pgq.stop() was called */
  void (*log)(void *owner, enum log_level level, const char *text, size_t length);
  void (*starved)(void *owner);                   /* a callback of luv has failed for lack of memory */
  bool (*current)(void *owner, uint32_t *number); /* returns whether a task runs now, and sets its number */
  void (*ready)(void *owner, uint32_t number);    /* the wait of the task is over; to be ignored if it does not wait */
  void (*callback)(void *owner, bool begins);     /* a callback of luv begins, or has ended */
  void (*watch)(void *owner, uint32_t number);    /* script_ended() is to be called when the task has ended */
};

/* script_new(config): creates a Lua state. Returns NULL if memory is short. `config` must outlive it.
 * script_free(script): closes the state; NULL is allowed. */
struct script *script_new(const struct script_config *config);
void script_free(struct script *script);

/*
 * script_load(script, message): runs the script file. Returns 0, or -1 after an error, or if the script has registered
 * no queue; `message` then receives the reason, with file and line.
 */
int script_load(struct script *script, struct buffer *message);

/* script_describe(script, out): appends the queues and settings of the script, as the fields of FRAME_READY. */
void script_describe(struct script *script, struct buffer *out);

/* script_sources_read(script): the files that were read so far; NULL if they were given, or are too many to be kept. */
const struct message_sources *script_sources_read(const struct script *script);

/* script_queue_count(script): the number of queues that the script has registered. */
uint32_t script_queue_count(const struct script *script);

/* script_serve(script, pool, prepare, version): sets the size of the connection pool of the tasks, whether statements
 * may be prepared on it, and what job.version is; "": nil. */
void script_serve(struct script *script, uint32_t pool, bool prepare, const char *version);

/*
 * script_begin(script, number, job, preserve, timeout_ms, outcome): calls the queue's handler in the task of that
 * number. For a handler that completes the job itself (job->settles): `preserve` means that it is to keep the job's
 * row, and `timeout_ms` is the time limit, which limits its transaction, too. Unless the handler ends the process, the
 * call returns, and fills *outcome: OUTCOME_NONE when the handler waits. Of the other fields it sets `backoff`,
 * `discard`, `wait_ms` and the texts, which are valid until the next call of any script_ function; it clears the rest.
 * The job's data is copied.
 */
void script_begin(struct script *script, uint32_t number, const struct message_job *job, bool preserve,
                  int64_t timeout_ms, struct job_outcome *outcome);

/* script_resume(script, number, outcome): continues a task that waited; as script_begin(). */
void script_resume(struct script *script, uint32_t number, struct job_outcome *outcome);

/* Why a task is to end early. */
enum script_interrupt { SCRIPT_TIMEOUT, SCRIPT_CANCELLED };

/*
 * script_interrupt(script, number, why, final): ends the wait of the task. When the task is resumed, the function that
 * waited raises pgq.timeout or pgq.cancelled. If `final`, each further wait of the task raises it, too.
 */
void script_interrupt(struct script *script, uint32_t number, enum script_interrupt why, bool final);

/* script_ended(script, number): to be called when a task has ended for which script_config.watch was called. Releases
 * the resources that the task has left open, for example connections. */
void script_ended(struct script *script, uint32_t number);

/*
 * Settings of the Lua state that handlers can change and that all of them share: the debug hook, io.output and
 * io.input, the garbage collector, the compiler, metatables of basic types, the seed of math.random.
 *
 * script_note_settings(script): those that the script has made while it was loaded apply to each job. Returns false if
 * memory is short. script_settings_changed(script): whether a handler may have changed one since.
 *
 * script_restore_settings(script, number, waits, changed, lost): brings them back after the task of that number has
 * ended or begun to wait, and appends their names as process_state_restore() does. If the task waits, its own settings
 * are kept; script_bring_settings(script, number) applies them when the task continues.
 */
bool script_note_settings(struct script *script);
bool script_settings_changed(const struct script *script);
void script_restore_settings(struct script *script, uint32_t number, bool waits, struct buffer *changed,
                             struct buffer *lost);
void script_bring_settings(struct script *script, uint32_t number);

/* script_collect(script): runs a full garbage collection. */
void script_collect(struct script *script);

#endif
