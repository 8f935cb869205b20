#ifndef PGQ_EXECUTOR_STATE_H
#define PGQ_EXECUTOR_STATE_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "buffer.h"
#include "frame.h"
#include "memory_pressure.h"
#include "message.h"
#include "script.h"
#include "task.h"

/* Exit status of an executor that was not started by a supervisor or received a malformed frame. */
enum { STATUS_MISUSED = 2 };

/* For the files executor*.c only. executor.c has the loop, executor_frames.c what comes in, executor_process.c what
 * concerns the process. */
struct executor {
  uv_loop_t loop;
  uv_pipe_t socket;
  uv_idle_t turn;     /* active while there is work to do */
  uv_signal_t signal; /* used at the start only */
  uv_timer_t idle;    /* collects garbage when there is no work */
  struct shared_page *page;
  struct buffer in;
  size_t to_skip; /* bytes that are to come of a job that was refused */
  struct outbox *outbox;
  struct script_config config;
  struct message_configure configure; /* owns the texts that `config` points to */
  struct script *script;
  struct task_list *tasks;
  struct memory_pressure pressure;
  struct buffer left; /* names of the settings that a job has left changed last */
  bool leaving;
  int status;
};

/* executor_configure(e, frame): takes FRAME_CONFIGURE and loads the script. Returns false if the frame is malformed or
 * comes at the wrong time. */
bool executor_configure(struct executor *e, struct frame *frame);

/* executor_work(e): there may be jobs to run. executor_leave(e): ends the loop. */
void executor_work(struct executor *e);
void executor_leave(struct executor *e);

/* executor_listen(e): begins to take frames. Returns false if there is no socket. */
bool executor_listen(struct executor *e);

/* executor_prepare_process(supervisor): to be called first. `supervisor` is the number of that process; 0: unknown.
 * executor_prepare_settings(e): finds out which signal handler is libuv's own. */
void executor_prepare_process(pid_t supervisor);
void executor_prepare_settings(struct executor *e);

/* executor_map_page(): maps the shared page between two pages that nothing can be written to, so that code that writes
 * beyond the end of its memory crashes. The descriptor is closed: handlers have no use for it. Returns NULL if there is
 * none. */
struct shared_page *executor_map_page(void);

#endif
