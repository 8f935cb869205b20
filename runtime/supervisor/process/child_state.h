#ifndef PGQ_CHILD_STATE_H
#define PGQ_CHILD_STATE_H

#include "child.h"

#include <sys/types.h>

/* What a child is made of: for its two files only. child.c has the process and the shared page, child_frames.c what
 * goes to it and comes from it. */
struct child {
  uv_loop_t *loop;
  const struct child_start *start;
  const struct child_events *events;
  void *owner;
  bool alive, ready, retired;
  bool leaves;           /* it was asked to */
  uv_process_t *process; /* process and socket have memory of their own: they outlive the child by a turn of the loop */
  uv_pipe_t *socket;
  int page_fd;
  struct shared_page *page;
  struct buffer in;
  char fault[128];          /* why we killed it, "" if we did not */
  int64_t partial_since_ms; /* a frame has begun to come in then; 0: none */
  long peak_kb;             /* of memory, when it was looked at last; 0: never */
};

/* child_configure(child): sends the first frame. */
void child_configure(struct child *child);

/* child_listen(child): takes frames as they come in. */
void child_listen(struct child *child);

/* child_read_rest(child): takes what has come in and was not read: the process has ended, perhaps before its last words
 * were. */
void child_read_rest(struct child *child);

#endif
