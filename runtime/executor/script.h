#ifndef PGQ_SCRIPT_H
#define PGQ_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "protocol.h"

/*
 * The one door to Lua: a state with the user's script in it. Nobody else in the executor includes lua.h.
 *
 *     script_new ─ script_load ─ script_run* ─ script_free
 */
struct script;

struct script_config {
  const char *conninfo;    /* what pgq.connect() uses without an argument; "" for libpq's own settings */
  const char *const *argv; /* the command line of pgq-lua */
  int argc;
  int script;                /* argv[script] is the file to load, what follows are its arguments */
  void (*stop)(void *owner); /* pgq.stop() was called */
  void *owner;
};

/* A job as a handler sees it; data is not kept. */
struct script_job {
  uint32_t queue; /* as registered, from 0 */
  int64_t id;
  uint32_t attempt, retries_left;
  double created_at, run_after; /* Unix seconds */
  const char *data;
  size_t data_length;
};

/* How a handler ended. The texts live until the next call of any script_ function. */
struct script_end {
  enum outcome outcome; /* OUTCOME_COMPLETE or OUTCOME_FAIL */
  bool backoff;
  const char *error;
  size_t error_length;
  const char *traceback;
  size_t traceback_length;
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

/* script_run(script, job, end): calls the queue's handler. Whatever the handler does, short of ending the process, the
 * call returns and says how it ended. */
void script_run(struct script *script, const struct script_job *job, struct script_end *end);

#endif
