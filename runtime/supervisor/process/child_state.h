#ifndef PGQ_CHILD_STATE_H
#define PGQ_CHILD_STATE_H

#include "child.h"

#include <sys/types.h>

/*
 * The inside of a child, for its three files only: child.c has the life of the process, child_frames.c the frames to it
 * and from it, child_page.c the shared page.
 *
 *     CHILD_DEAD ─► CHILD_RUNNING ─► CHILD_RETIRED ─► CHILD_LEAVING ─► CHILD_DEAD
 *
 * CHILD_RETIRED may be left out, and a process may die in every state. `process`, `socket`, `in`,
 * `reported`, `loaded`, `partial_since_ms` and `peak_kb` are valid while it is not dead, the page from the first start
 * on.
 */
enum child_state {
  CHILD_DEAD,    /* there is no process */
  CHILD_RUNNING, /* the process loads its script, and then gets jobs */
  CHILD_RETIRED, /* the process gets no more jobs */
  CHILD_LEAVING, /* the process was asked to exit when its jobs have ended */
  CHILD_STATE_COUNT,
};

struct child {
  uv_loop_t *loop;
  const struct child_start *start;
  const struct child_events *events;
  void *owner;
  enum child_state state;
  bool reported;         /* the process has sent READY or BROKEN, and may send neither again */
  bool loaded;           /* the process has sent READY */
  bool reads_sources;    /* the process reads the files of the script itself, and may send SOURCES once */
  uv_process_t *process; /* process and socket are allocated by themselves: they outlive the child by one loop turn */
  uv_pipe_t *socket;
  int page_fd; /* -1: there is no page yet */
  struct shared_page *page;
  uint32_t revoked[HOLDS_PER_EXECUTOR]; /* what this side has written to the page */
  bool page_damaged;                    /* something has written over the page: nothing on it can be believed */
  int broken_seals;                     /* calls in a row of child_seal_is_broken() that found it inconsistent */
  struct buffer in;                     /* received bytes, from the first incomplete frame on */
  char fault[128];                      /* why the supervisor has killed the process; "": it has not */
  int64_t partial_since_ms;             /* since when a frame is incomplete; 0: no frame is */
  long peak_kb;                         /* peak memory of the process when last measured; 0: never measured */
};

/* child_open_page(child): creates the shared page, or clears it for the next process. Returns 0, or -1 and errno. */
int child_open_page(struct child *child);

/* child_seal_is_broken(child): whether the process's own part of the page was inconsistent at the last few calls. A
 * live process is inconsistent for a moment, between two writes. To be called regularly. */
bool child_seal_is_broken(struct child *child);

/* child_page_is_intact(child): whether what this side has written to the page is still there; once the process is dead,
 * also whether its own part is consistent. */
bool child_page_is_intact(const struct child *child);

/* child_close_page(child): unmaps the page, if there is one. */
void child_close_page(struct child *child);

/* child_callback_ms(child): for how long a callback of luv has run in the process; 0: no callback runs. */
int64_t child_callback_ms(const struct child *child);

/* child_configure(child, sources): sends the first frame. child_ask_to_leave(child): sends the last one. */
void child_configure(struct child *child, const struct sources *sources);
void child_ask_to_leave(struct child *child);

/* child_listen(child): takes frames as they come in. */
void child_listen(struct child *child);

/* child_read_rest(child): takes the frames that a process sent before it ended, and that were not read yet. */
void child_read_rest(struct child *child);

#endif
