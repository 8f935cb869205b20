#include "executor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "clock.h"
#include "executor_state.h"
#include "forked.h"
#include "outbox.h"
#include "protocol.h"

/* Jobs run for this long before outcomes are sent and the socket is read again. */
enum { TURN_US = 1000 };

/* An executor whose tasks all wait collects garbage this often. */
enum { IDLE_MS = 5000 };

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

void executor_leave(struct executor *e) {
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

void executor_work(struct executor *e) {
  if (!e->leaving)
    uv_idle_start(&e->turn, on_turn);
}

static void on_work(void *owner) {
  executor_work(owner);
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
    executor_leave(e);
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

bool executor_configure(struct executor *e, struct frame *frame) {
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

int executor_main(const char *supervisor) {
  struct executor executor = {.pressure.statm = -1}, *e = &executor;
  executor_prepare_process(supervisor ? (pid_t)strtol(supervisor, NULL, 10) : 0);
  e->page = executor_map_page();
  if (!e->page) {
    fprintf(stderr, "pgq-lua executor: this command is started by pgq-lua itself; start a worker with: pgq-lua FILE\n");
    return STATUS_MISUSED;
  }
  uv_loop_init(&e->loop);
  forked_prepare(&e->loop);
  executor_prepare_settings(e);
  uv_pipe_init(&e->loop, &e->socket, 0);
  uv_idle_init(&e->loop, &e->turn);
  uv_timer_init(&e->loop, &e->idle);
  e->socket.data = e->turn.data = e->idle.data = e;
  e->outbox = outbox_new(EXECUTOR_SOCKET);
  the_executor = e;
  atexit(flush_at_exit);
  if (e->outbox && executor_listen(e))
    uv_run(&e->loop, UV_RUN_DEFAULT);
  tear_down(e);
  return e->status;
}
