#include "executor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "clock.h"
#include "forked.h"
#include "memory.h"
#include "message.h"
#include "outbox.h"
#include "process_state.h"
#include "protocol.h"
#include "script.h"
#include "signal_reset.h"
#include "task.h"

/* Jobs run for this long before outcomes are sent and the socket is read again. */
enum { TURN_US = 1000, READ_SIZE = 256 * 1024 };

/* The memory for larger frames is allocated exactly, and may be missing. */
enum { LARGE_FRAME = MEMORY_LARGE };

/* Whether there is memory for a frame of this size is tried, together with a margin. For frames below half of
 * LARGE_FRAME the trial is served from memory that the process has already, as long as it has any. */
enum { TRIED_LEAST = 64 * 1024, MARGIN = LARGE_FRAME / 2 };

/* An executor whose tasks all wait collects garbage this often. */
enum { IDLE_MS = 5000 };

/* Exit status of an executor that was not started by a supervisor or received a malformed frame. */
enum { STATUS_MISUSED = 2 };

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

static struct executor *the_executor; /* for flush_at_exit() */

/* If a handler calls os.exit(), outcomes of other jobs must not be lost with the process. */
static void flush_at_exit(void) {
  if (the_executor && the_executor->outbox && !forked_is_other_process())
    outbox_flush(the_executor->outbox);
}

/* ── requests of the script ── */

static size_t at_most(size_t length) {
  return length > ERROR_TEXT_MOST ? ERROR_TEXT_MOST + 1 : length; /* one byte more shows that the text was cut */
}

static void on_script_stop(void *owner) {
  struct executor *e = owner;
  outbox_send(e->outbox, FRAME_STOP, &(struct buffer){0});
}

static void on_script_log(void *owner, enum log_level level, const char *text, size_t length) {
  struct executor *e = owner;
  struct buffer fields = {0};
  if (!the_executor) { /* the socket is closed: a finalizer has failed at the end */
    fprintf(stderr, "pgq-lua executor: %.*s\n", (int)at_most(length), text);
    return;
  }
  message_put_log(&fields, &(struct message_log){.level = level, .text = text, .length = at_most(length)});
  outbox_send(e->outbox, FRAME_LOG, &fields);
  buffer_free(&fields);
}

/* A callback failed for lack of memory, so the task that it should wake will never continue. The executor exits, and
 * its jobs run elsewhere, unless collecting garbage helps. */
static void on_script_starved(void *owner) {
  struct executor *e = owner;
  script_collect(e->script);
  if (!memory_pressure_measure(&e->pressure))
    return;
  fprintf(stderr, "pgq-lua executor: exiting, since no memory is left for callbacks (see --max-memory)\n");
  exit(1);
}

static bool on_script_current(void *owner, uint32_t *number) {
  const struct executor *e = owner;
  return e->tasks && task_list_current(e->tasks, number);
}

static void on_script_ready(void *owner, uint32_t number) {
  struct executor *e = owner;
  if (e->tasks)
    task_list_ready(e->tasks, number);
}

static void on_script_callback(void *owner, bool begins) {
  struct executor *e = owner;
  if (forked_is_child())
    forked_end(false, NULL, 0);
  atomic_store_explicit(&e->page->callback_us, begins ? clock_us() : 0, memory_order_release);
}

static void on_script_watch(void *owner, uint32_t number) {
  struct executor *e = owner;
  if (e->tasks)
    task_list_watch(e->tasks, number);
}

/* ── turns ── */

static void leave(struct executor *e) {
  e->leaving = true;
  uv_idle_stop(&e->turn);
  uv_stop(&e->loop);
}

/* One turn: runs jobs for a millisecond and sends their outcomes. The loop reads the socket before the next turn. */
static void on_turn(uv_idle_t *turn) {
  struct executor *e = turn->data;
  int64_t until_us = clock_us() + TURN_US;
  bool more = true;
  while (more && clock_us() < until_us)
    more = task_list_step(e->tasks);
  outbox_flush(e->outbox);
  if (!more)
    uv_idle_stop(turn);
}

static void on_work(void *owner) {
  struct executor *e = owner;
  if (!e->leaving)
    uv_idle_start(&e->turn, on_turn);
}

/* The same names are logged as a warning once. */
static void on_left(void *owner, int64_t job, const char *names, size_t length, bool lost) {
  struct executor *e = owner;
  struct buffer fields = {0};
  char text[512];
  if (lost) {
    message_put_replace(&fields, &(struct message_replace){.job = job, .left = names, .length = at_most(length)});
    outbox_send(e->outbox, FRAME_REPLACE, &fields);
    buffer_free(&fields);
    return;
  }
  bool known = e->left.length == length && memcmp(e->left.bytes, names, length) == 0;
  int size =
      snprintf(text, sizeof text, "job %lld has left settings changed that all jobs share; they were set back: %.*s",
               (long long)job, (int)length, names);
  on_script_log(e, known ? LOG_DEBUG : LOG_WARN, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
  e->left.length = 0;
  buffer_add(&e->left, names, length);
}

static const struct task_events task_events = {on_work, on_left};

/* Some tasks may wait for an event that can no longer come; the garbage collector finds these and ends their wait. */
static void on_idle(uv_timer_t *timer) {
  struct executor *e = timer->data;
  if (e->tasks && task_list_count_waiting(e->tasks) > 0 && !uv_is_active((uv_handle_t *)&e->turn))
    script_collect(e->script);
}

/* A script that needs too much memory while it loads fails with LuaJIT's own message. */
static void name_limit(const struct executor *e, struct buffer *message) {
  static const char cause[] = "not enough memory";
  char text[80];
  if (e->configure.most_memory == 0 || message->length < sizeof cause - 1 ||
      !memmem(message->bytes, message->length, cause, sizeof cause - 1))
    return;
  int length = snprintf(text, sizeof text, " (the executor has %llu MB: --max-memory)",
                        (unsigned long long)e->configure.most_memory >> 20);
  buffer_add(message, text, (size_t)length);
}

/* Other executors will run the same bytes. */
static void send_sources(struct executor *e) {
  const struct message_sources *sources = e->script ? script_sources_read(e->script) : NULL;
  struct buffer fields = {0};
  if (!sources)
    return;
  message_put_sources(&fields, sources);
  outbox_send(e->outbox, FRAME_SOURCES, &fields);
  buffer_free(&fields);
}

static void start_script(struct executor *e) {
  struct buffer fields = {0}, message = {0};
  e->script = script_new(&e->config);
  bool loaded = e->script && script_load(e->script, &message) == 0;
  if (forked_is_child())
    forked_end(!loaded, (const char *)message.bytes, message.length);
  send_sources(e);
  if (!loaded) {
    name_limit(e, &message);
    message_put_broken(&fields, message.bytes, at_most(message.length));
    outbox_send(e->outbox, FRAME_BROKEN, &fields);
    e->status = 1;
    leave(e);
  } else {
    e->tasks = task_list_new(&e->loop, e->script, e->page, e->outbox, &e->pressure, &task_events, e);
    uv_timer_start(&e->idle, on_idle, IDLE_MS, IDLE_MS);
    script_describe(e->script, &fields);
    outbox_send(e->outbox, FRAME_READY, &fields);
  }
  buffer_free(&fields);
  buffer_free(&message);
}

/* Beyond this limit allocations fail, and LuaJIT raises an error that a handler can catch. */
static void limit_memory(uint64_t most) {
  struct rlimit limit = {.rlim_cur = most, .rlim_max = most};
  if (most > 0)
    setrlimit(RLIMIT_DATA, &limit);
}

static bool configure(struct executor *e, struct frame *frame) {
  if (e->script || e->leaving || !message_get_configure(frame, &e->configure))
    return false;
  limit_memory(e->configure.most_memory);
  memory_pressure_init(&e->pressure, e->configure.most_memory);
  e->config = (struct script_config){.conninfo = e->configure.conninfo,
                                     .argv = (const char *const *)e->configure.argv,
                                     .argc = (int)e->configure.argc,
                                     .script = (int)e->configure.script,
                                     .sources = &e->configure.sources,
                                     .loop = &e->loop,
                                     .owner = e,
                                     .stop = on_script_stop,
                                     .log = on_script_log,
                                     .starved = on_script_starved,
                                     .current = on_script_current,
                                     .ready = on_script_ready,
                                     .callback = on_script_callback,
                                     .watch = on_script_watch};
  start_script(e);
  return true;
}

/* Whether there is enough memory for the bytes of a frame, and a little more: the process ends when its own code gets
 * none. */
static bool has_memory(struct executor *e, size_t length) {
  if (length < TRIED_LEAST || memory_has(length + MARGIN))
    return true;
  if (e->script)
    script_collect(e->script);
  return memory_has(length + MARGIN);
}

/* Refuses the job of a frame that has no more than one, of which only the first bytes may have come. Returns false if
 * it is no such frame. */
static bool refuse_job(struct executor *e, struct frame frame, size_t length) {
  struct message_job job = {0};
  uint32_t batch = get_u32(&frame), count = get_u32(&frame);
  job.index = get_u32(&frame);
  job.position = get_u32(&frame);
  job.data_length = length;
  if (frame.type != FRAME_JOBS || frame.bad || count != 1 || job.position == 0 || !e->tasks)
    return false;
  task_list_refuse(e->tasks, batch, &job);
  outbox_flush(e->outbox);
  return true;
}

static bool take_jobs(struct executor *e, struct frame *frame) {
  size_t length = frame_left(frame);
  if (!has_memory(e, length)) {
    if (refuse_job(e, *frame, length))
      return true;
    bool right = e->tasks && task_list_refuse_all(e->tasks, frame);
    outbox_flush(e->outbox);
    return right;
  }
  if (!e->tasks || !task_list_add(e->tasks, frame))
    return false;
  on_work(e);
  return true;
}

static bool take_recall(struct executor *e, struct frame *frame) {
  struct message_recall recall;
  if (!e->tasks || !message_get_recall(frame, &recall))
    return false;
  task_list_recall(e->tasks, recall.batch, recall.queue);
  on_work(e);
  return true;
}

static bool take_cancel(struct executor *e, struct frame *frame) {
  struct message_cancel cancel;
  if (!e->tasks || !message_get_cancel(frame, &cancel))
    return false;
  task_list_cancel(e->tasks, cancel.batch, cancel.index);
  on_work(e);
  return true;
}

/* Returns false for a frame that is malformed or comes at the wrong time. */
static bool take_frame(struct executor *e, struct frame *frame) {
  switch (frame->type) {
  case FRAME_CONFIGURE:
    return configure(e, frame);
  case FRAME_SERVE:
    return e->tasks && task_list_serve(e->tasks, frame);
  case FRAME_JOBS:
    return take_jobs(e, frame);
  case FRAME_RECALL:
    return take_recall(e, frame);
  case FRAME_CANCEL:
    return take_cancel(e, frame);
  case FRAME_LEAVE:
    leave(e);
    return frame_end_ok(frame);
  default:
    return false;
  }
}

/* Handles all complete frames that have come in. After a malformed one the executor exits. */
static void take_frames(struct executor *e) {
  struct frame frame;
  size_t at = 0, size = 0;
  int found = 0;
  while (!e->leaving &&
         (found = frame_next(e->in.bytes + at, e->in.length - at, FRAME_MOST_DOWN, &frame, &size)) != 0) {
    if (found < 0 || !take_frame(e, &frame)) {
      fprintf(stderr, "pgq-lua executor: exiting after a malformed frame (type %d) from the supervisor\n",
              found > 0 ? frame.type : 0);
      e->status = STATUS_MISUSED;
      leave(e);
      break;
    }
    at += size;
  }
  buffer_drop(&e->in, at);
}

/* Of a frame that has begun to come in: how many bytes are to come; 0: it is not known. */
static size_t count_missing(const struct executor *e) {
  uint32_t follows;
  if (e->in.length < sizeof follows + 1)
    return 0;
  memcpy(&follows, e->in.bytes, sizeof follows);
  size_t size = sizeof follows + follows;
  return size <= FRAME_MOST_DOWN && size > e->in.length ? size - e->in.length : 0;
}

/*
 * Makes room for the rest of a large frame, exactly. If there is no memory for it, its job is refused, and the rest
 * will be thrown away as it comes in.
 */
static void make_room(struct executor *e, size_t missing) {
  struct frame head = {.type = e->in.bytes[sizeof(uint32_t)], .at = e->in.bytes + sizeof(uint32_t) + 1};
  head.end = e->in.bytes + e->in.length;
  if (e->in.capacity - e->in.length >= missing)
    return;
  if (has_memory(e, e->in.length + missing)) {
    buffer_reserve(&e->in, missing);
  } else if (refuse_job(e, head, e->in.length + missing)) {
    e->to_skip = missing;
    buffer_free(&e->in);
  }
}

static void on_allocate(uv_handle_t *handle, size_t wanted, uv_buf_t *space) {
  static char skipped[READ_SIZE];
  struct executor *e = handle->data;
  (void)wanted;
  size_t missing = e->to_skip > 0 ? 0 : count_missing(e);
  bool large = missing > 0 && e->in.length + missing > LARGE_FRAME;
  if (large)
    make_room(e, missing);
  if (e->to_skip > 0) {
    *space = uv_buf_init(skipped, (unsigned)(e->to_skip < sizeof skipped ? e->to_skip : sizeof skipped));
    return;
  }
  if (large) {
    *space = uv_buf_init(buffer_space(&e->in, missing), (unsigned)missing);
    return;
  }
  *space = uv_buf_init(buffer_space(&e->in, READ_SIZE), READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *space) {
  struct executor *e = stream->data;
  (void)space;
  if (length < 0) { /* the supervisor has ended, and its claims with it: other workers may run these jobs now */
    leave(e);
    return;
  }
  if (e->to_skip > 0) {
    e->to_skip -= (size_t)length;
    return;
  }
  e->in.length += (size_t)length;
  take_frames(e);
}

static void ignore_signal(int number) {
  (void)number;
}

/*
 * The supervisor handles the signals that are sent to the worker. Service managers send them to all processes of a
 * service; the executor does nothing on them. It has a handler that does nothing, because processes that handlers start
 * would inherit SIG_IGN.
 */
static void prepare_signals(void) {
  static const int signals[] = {SIGINT,  SIGTERM, SIGQUIT,   SIGHUP,  SIGUSR1, SIGUSR2, SIGPIPE,
                                SIGXFSZ, SIGALRM, SIGVTALRM, SIGPROF, SIGIO,   SIGPWR,  SIGSTKFLT};
  struct sigaction action = {.sa_handler = ignore_signal, .sa_flags = SA_RESTART};
  signal_reset();
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
    sigaction(signals[i], &action, NULL);
}

/* `supervisor`: its process number; 0: unknown. */
static void prepare_process(pid_t supervisor) {
  prepare_signals();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "pgq-executor"); /* otherwise the name would be that of a descriptor */
  pid_t parent = getppid();           /* 0: the supervisor is in another PID namespace */
  if (supervisor > 0 && parent > 0 && parent != supervisor)
    _exit(0); /* the supervisor died before the parent-death signal was set */
  fcntl(EXECUTOR_SOCKET, F_SETFD, FD_CLOEXEC);
  memory_set_limits();
  setvbuf(stdout, NULL, _IOLBF, 0); /* output of handlers appears at once, and is not lost if the process is killed */
  int adjust = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (adjust >= 0) { /* when memory runs out, the kernel is to kill an executor rather than the supervisor */
    if (write(adjust, "500", 3) < 0)
      errno = 0;
    close(adjust);
  }
}

static void ignore_luv_signal(uv_signal_t *signal, int number) {
  (void)signal;
  (void)number;
}

/* Finds out libuv's signal handler: it is there while a signal is watched. */
static void prepare_settings(struct executor *e) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  uv_signal_t *signal = &e->signal;
  uv_signal_init(&e->loop, signal);
  if (uv_signal_start(signal, ignore_luv_signal, SIGWINCH) == 0)
    sigaction(SIGWINCH, NULL, &action);
  process_state_prepare(action.sa_handler);
  uv_close((uv_handle_t *)signal, NULL);
}

/* Closes a handle that a handler has left open, such as a timer or a pipe. */
static void close_left(uv_handle_t *handle, void *unused) {
  (void)unused;
  if (!uv_is_closing(handle))
    uv_close(handle, NULL);
}

static void tear_down(struct executor *e) {
  the_executor = NULL;
  uv_close((uv_handle_t *)&e->socket, NULL);
  uv_close((uv_handle_t *)&e->turn, NULL);
  uv_close((uv_handle_t *)&e->idle, NULL);
  if (e->tasks)
    task_list_close(e->tasks);
  uv_walk(&e->loop, close_left, NULL);
  uv_run(&e->loop, UV_RUN_NOWAIT);
  script_free(e->script); /* its finalizers may open further handles */
  uv_walk(&e->loop, close_left, NULL);
  uv_run(&e->loop, UV_RUN_NOWAIT);
  uv_loop_close(&e->loop);
  if (e->tasks)
    task_list_free(e->tasks);
  outbox_free(e->outbox);
  memory_pressure_free(&e->pressure);
  buffer_free(&e->in);
  buffer_free(&e->left);
  message_free_configure(&e->configure);
}

/*
 * Maps the shared page between two pages that nothing can be written to, so that code that writes beyond the end of its
 * memory crashes. The descriptor is closed: handlers have no use for it. Returns NULL if there is none.
 */
static struct shared_page *map_page(void) {
  size_t size = (size_t)sysconf(_SC_PAGESIZE);
  char *around = mmap(NULL, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (around == MAP_FAILED)
    return NULL;
  void *page = mmap(around + size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, EXECUTOR_PAGE, 0);
  if (page == MAP_FAILED)
    return NULL;
  madvise(page, size, MADV_DONTFORK);
  close(EXECUTOR_PAGE);
  return page;
}

int executor_main(const char *supervisor) {
  struct executor executor = {.pressure.statm = -1}, *e = &executor;
  prepare_process(supervisor ? (pid_t)strtol(supervisor, NULL, 10) : 0);
  e->page = map_page();
  if (!e->page) {
    fprintf(stderr, "pgq-lua executor: this command is started by pgq-lua itself; start a worker with: pgq-lua FILE\n");
    return STATUS_MISUSED;
  }
  uv_loop_init(&e->loop);
  forked_prepare(&e->loop);
  prepare_settings(e);
  uv_pipe_init(&e->loop, &e->socket, 0);
  uv_idle_init(&e->loop, &e->turn);
  uv_timer_init(&e->loop, &e->idle);
  e->socket.data = e->turn.data = e->idle.data = e;
  e->outbox = outbox_new(EXECUTOR_SOCKET);
  the_executor = e;
  atexit(flush_at_exit);
  if (e->outbox && uv_pipe_open(&e->socket, EXECUTOR_SOCKET) == 0 &&
      uv_read_start((uv_stream_t *)&e->socket, on_allocate, on_read) == 0)
    uv_run(&e->loop, UV_RUN_DEFAULT);
  tear_down(e);
  return e->status;
}
