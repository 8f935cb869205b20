#ifndef PGQ_MESSAGE_H
#define PGQ_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"
#include "log.h"
#include "protocol.h"

/*
 * The fields of each type of frame. Each type is written and read here only, so that both ends agree. A frame without
 * fields (LEAVE, STOP) is checked with frame_end_ok().
 *
 * message_put_*() functions append fields to `out`, between the caller's frame_begin() and frame_finish().
 *
 * message_get_*() functions do not trust the writer. They return false for a frame that message_put_*() cannot have
 * written: with missing or surplus fields, with a count that does not fit into the frame, with an unknown enum value,
 * or with a NUL in a text. The frame is then marked as bad, and nothing has to be freed. Frames that are read in parts
 * (JOBS and OUTCOMES) have their own rules, below.
 */

/*
 * A file of Lua source that an executor has read while it loaded its script: the script itself, a module, or a file
 * that was given to loadfile or dofile.
 */
struct message_source {
  char *module; /* the name that was required; "": the file was no module */
  char *path;
  const char *bytes; /* not NUL-terminated */
  size_t length;
};

/* A list of them, in the order in which they were read. `memory` has the bytes of all. */
struct message_sources {
  uint32_t count;
  struct message_source *items;
  void *memory; /* allocated by message_get_sources() */
};

/* FRAME_SOURCES has only the list; it is the end of FRAME_CONFIGURE, too. */
void message_put_sources(struct buffer *out, const struct message_sources *sources);

/* message_get_sources(frame, sources): copies texts and bytes; message_free_sources() frees them. */
bool message_get_sources(struct frame *frame, struct message_sources *sources) __attribute__((warn_unused_result));
void message_free_sources(struct message_sources *sources);

/* FRAME_CONFIGURE */
struct message_configure {
  const char *conninfo; /* "" for libpq's own settings; NULL is written as "" */
  uint64_t most_memory; /* the executor's limit in bytes; 0: none */
  uint32_t script;      /* argv[script] is the script; less than argc */
  uint32_t argc;
  char **argv;
  struct message_sources sources; /* files that are not to be read, because these bytes stand for them */
};

void message_put_configure(struct buffer *out, const struct message_configure *configure);

/* message_get_configure(frame, configure): copies the texts; message_free_configure() frees them. */
bool message_get_configure(struct frame *frame, struct message_configure *configure)
    __attribute__((warn_unused_result));

/* message_free_configure(configure): frees what message_get_configure() has allocated. A zeroed struct is allowed. */
void message_free_configure(struct message_configure *configure);

/* FRAME_JOBS: a head, then `count` jobs. Positions start at 1 or more and rise from job to job. */
struct message_jobs {
  uint32_t batch;
  uint32_t count;      /* number of jobs in this frame, at least 1 */
  uint32_t last_queue; /* not sent: message_get_jobs() sets it to the greatest queue number among the jobs */
};

struct message_job {
  uint32_t index;    /* in the batch, from 0 */
  uint32_t position; /* in the order in which the batch's jobs are sent and begin, from 1 */
  uint32_t queue;    /* number of the queue in the order of registration, from 0 */
  int64_t id;
  uint32_t attempt, retries_left;
  double created_at, run_after; /* Unix seconds */
  bool settles;                 /* the handler completes the job itself, in its transaction */
  int64_t lease;                /* the token of the lease, if `settles`; any value */
  const char *data;             /* any bytes, not NUL-terminated, not copied: valid as long as the frame's bytes */
  size_t data_length;
};

void message_put_jobs(struct buffer *out, const struct message_jobs *jobs);
void message_put_job(struct buffer *out, const struct message_job *job);

/*
 * message_get_jobs(frame, jobs): reads the head and checks the whole frame. If it returns true, jobs->count calls of
 * message_get_job() succeed and read the frame to its end.
 */
bool message_get_jobs(struct frame *frame, struct message_jobs *jobs) __attribute__((warn_unused_result));
bool message_get_job(struct frame *frame, struct message_job *job) __attribute__((warn_unused_result));

/* FRAME_RECALL */
struct message_recall {
  uint32_t batch;
  uint32_t queue; /* number of a queue, or QUEUE_ALL */
};

void message_put_recall(struct buffer *out, const struct message_recall *recall);
bool message_get_recall(struct frame *frame, struct message_recall *recall) __attribute__((warn_unused_result));

/* FRAME_READY */
struct message_queue {
  char *name;
  enum choice preserve_completed, discard_failed;
  int64_t timeout_ms;   /* 0: no limit; -1: not set; at most DURATION_MAX_MS */
  uint32_t concurrency; /* 0: not set */
  bool transactional;
};

struct message_setting {
  char *name, *value;
};

struct message_ready {
  uint32_t queue_count;
  struct message_queue *queues;
  uint32_t setting_count;
  struct message_setting *settings;
};

void message_put_ready(struct buffer *out, const struct message_ready *ready);

/* message_get_ready(frame, ready): copies lists and texts; message_free_ready() frees them. */
bool message_get_ready(struct frame *frame, struct message_ready *ready) __attribute__((warn_unused_result));
void message_free_ready(struct message_ready *ready);

/* FRAME_SERVE */
struct message_serve_queue {
  uint32_t concurrency; /* 0: the queue has no limit of its own */
  int64_t timeout_ms;   /* 0: no limit; at most DURATION_MAX_MS */
  bool preserve_completed;
};

struct message_serve {
  uint32_t concurrency; /* of the executor, at least 1 */
  uint32_t pool;        /* size of the connection pool, at least 1 */
  bool prepare;         /* whether statements may be prepared on its connections */
  char *version;        /* of the script, for job.version; "": unknown */
  uint32_t queue_count;
  struct message_serve_queue *queues; /* in the order of FRAME_READY */
};

void message_put_serve(struct buffer *out, const struct message_serve *serve);

/* message_get_serve(frame, serve): copies the list; message_free_serve() frees it. */
bool message_get_serve(struct frame *frame, struct message_serve *serve) __attribute__((warn_unused_result));
void message_free_serve(struct message_serve *serve);

/* FRAME_CANCEL */
struct message_cancel {
  uint32_t batch, index;
};

void message_put_cancel(struct buffer *out, const struct message_cancel *cancel);
bool message_get_cancel(struct frame *frame, struct message_cancel *cancel) __attribute__((warn_unused_result));

/* FRAME_LOG. The text is any bytes, not NUL-terminated and not copied. */
struct message_log {
  enum log_level level;
  const char *text;
  size_t length;
};

void message_put_log(struct buffer *out, const struct message_log *log);
bool message_get_log(struct frame *frame, struct message_log *log) __attribute__((warn_unused_result));

/* FRAME_REPLACE: the job has changed what cannot be set back. The names are any bytes, not NUL-terminated and not
 * copied. */
struct message_replace {
  int64_t job;
  const char *left;
  size_t length;
};

void message_put_replace(struct buffer *out, const struct message_replace *replace);
bool message_get_replace(struct frame *frame, struct message_replace *replace) __attribute__((warn_unused_result));

/* FRAME_BROKEN: why the script could not be loaded; any bytes, not NUL-terminated and not copied. */
void message_put_broken(struct buffer *out, const void *message, size_t length);
bool message_get_broken(struct frame *frame, const char **message, size_t *length) __attribute__((warn_unused_result));

/*
 * How a job ended: from the handler's return in the executor to the settle in the supervisor. FRAME_OUTCOMES holds any
 * number of them, one after the other, until frame_left() is 0.
 */
struct job_outcome {
  uint32_t batch, index;
  enum outcome outcome; /* in a frame: OUTCOME_COMPLETE to OUTCOME_SETTLED */
  bool backoff;         /* the queue is to pause */
  bool discard;         /* OUTCOME_FAIL: the job is not retried */
  bool waited;          /* the handler was suspended at least once */
  int64_t wait_ms; /* OUTCOME_SNOOZE: until the job runs again; OUTCOME_FAIL: replaces the next retry wait; -1: none */
  uint64_t duration_us;          /* from begin to end; at most DURATION_MAX_MS, so that sums do not overflow */
  uint64_t busy_us;              /* the duration without the handler's waits */
  const char *error, *traceback; /* any bytes, not NUL-terminated, owned by the sender; the length may be 0 */
  size_t error_length, traceback_length;
  int64_t came_us; /* not in the frame: the receiver's clock_us() when the frame had come */
};

void message_put_outcome(struct buffer *out, const struct job_outcome *outcome);
bool message_get_outcome(struct frame *frame, struct job_outcome *outcome) __attribute__((warn_unused_result));

#endif
