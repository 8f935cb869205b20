/* The part of child.h that starts the process, checks it, and reports its death. */
#include "child_state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "memory.h"
#include "output_pipes.h"

/* An executor writes a frame completely. If the rest does not come, other code in its process has written to the
 * socket. */
enum { PARTIAL_MS = 5000 };

/* A callback of luv belongs to no job, so that no job's time limit ends it. */
enum { CALLBACK_MS = 30000 };

/* Lower descriptors are needed for the child. */
enum { OWN_FILE_LEAST = 10 };

/* The only function that writes the state. A transition that is not in its table is a fault of the program. */
static void child_set_state(struct child *child, enum child_state next) {
#define TO(state) (1u << CHILD_##state)
  static const unsigned allowed[CHILD_STATE_COUNT] = {
      [CHILD_DEAD] = TO(RUNNING),
      [CHILD_RUNNING] = TO(RETIRED) | TO(LEAVING) | TO(DEAD),
      [CHILD_RETIRED] = TO(LEAVING) | TO(DEAD),
      [CHILD_LEAVING] = TO(DEAD),
  };
#undef TO
  if (!(allowed[child->state] >> next & 1)) {
    log_error("internal error: an executor's process cannot change its state like this; the worker ends",
              LOG_I("from", child->state), LOG_I("to", next));
    abort();
  }
  child->state = next;
}

struct child *child_new(uv_loop_t *loop, const struct child_start *start, const struct child_events *events,
                        void *owner) {
  struct child *child = memory_new(sizeof *child);
  *child = (struct child){.loop = loop, .start = start, .events = events, .owner = owner, .page_fd = -1};
  return child;
}

void child_free(struct child *child) {
  if (!child)
    return;
  child_close_page(child);
  buffer_free(&child->in);
  free(child);
}

bool child_is_alive(const struct child *child) {
  return child->state != CHILD_DEAD;
}

bool child_is_ready(const struct child *child) {
  return child->state == CHILD_RUNNING && child->loaded;
}

int child_pid(const struct child *child) {
  return child->state != CHILD_DEAD ? child->process->pid : 0;
}

/* ── the start ── */

static void free_handle(uv_handle_t *handle) {
  free(handle);
}

static void on_death(uv_process_t *process, int64_t status, int signal);

/*
 * Returns a path from which this program can be started again. The file is kept open, so that executors run this
 * program even if the file was replaced meanwhile. (Under valgrind, opening /proc/self/exe opens valgrind, but the link
 * names our program.) Without /proc, the path is that with which the program was started.
 */
static const char *own_file(void) {
  static char file[PATH_MAX];
  char path[PATH_MAX];
  ssize_t length = *file ? -1 : readlink("/proc/self/exe", path, sizeof path - 1);
  if (length > 0) {
    path[length] = '\0';
    int low = open(path, O_PATH | O_CLOEXEC);
    int fd = low >= 0 ? fcntl(low, F_DUPFD_CLOEXEC, OWN_FILE_LEAST) : -1;
    if (low >= 0)
      close(low);
    if (fd >= 0)
      snprintf(file, sizeof file, "/proc/self/fd/%d", fd);
  }
  const char *started = (const char *)getauxval(AT_EXECFN);
  if (!*file && length < 0 && started && realpath(started, path))
    snprintf(file, sizeof file, "%s", path);
  return *file ? file : "/proc/self/exe";
}

static int spawn(struct child *child) {
  char parent[16];
  char *arguments[] = {"pgq-lua", "executor", parent, child->start->argv[child->start->script], NULL};
  snprintf(parent, sizeof parent, "%d", (int)getpid());
  uv_stdio_container_t descriptors[] = {
      {.flags = UV_IGNORE},
      {.flags = UV_INHERIT_FD, .data.fd = output_pipes_fd(child->start->output, STDOUT_FILENO)},
      {.flags = UV_INHERIT_FD, .data.fd = output_pipes_fd(child->start->output, STDERR_FILENO)},
      [EXECUTOR_SOCKET] = {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE,
                           .data.stream = (uv_stream_t *)child->socket},
      [EXECUTOR_PAGE] = {.flags = UV_INHERIT_FD, .data.fd = child->page_fd},
  };
  uv_process_options_t options = {
      .file = own_file(),
      .args = arguments,
      .stdio = descriptors,
      .stdio_count = sizeof descriptors / sizeof descriptors[0],
      .flags = UV_PROCESS_DETACHED, /* a session of its own: the terminal's ^C does not reach it */
      .exit_cb = on_death,
  };
  return uv_spawn(child->loop, child->process, &options);
}

int child_start(struct child *child, const struct sources *sources) {
  if (child_open_page(child) != 0) {
    log_error("cannot start an executor", LOG_T("error", strerror(errno)));
    return -1;
  }
  child->process = memory_new(sizeof *child->process);
  child->socket = memory_new(sizeof *child->socket);
  child->process->data = child->socket->data = child;
  uv_pipe_init(child->loop, child->socket, 0);
  int result = spawn(child);
  if (result != 0) {
    log_error("cannot start an executor", LOG_T("error", uv_strerror(result)));
    uv_close((uv_handle_t *)child->socket, free_handle);
    uv_close((uv_handle_t *)child->process, free_handle);
    return -1;
  }
  child_set_state(child, CHILD_RUNNING);
  child->reported = child->loaded = false;
  child->reads_sources = !sources;
  child->fault[0] = '\0';
  child->peak_kb = 0;
  child->partial_since_ms = 0;
  child_listen(child);
  child_configure(child, sources);
  return 0;
}

/* ── its life ── */

/* Reads a number of kB from /proc/PID/status; -1 if it is missing. */
static long read_status(const struct child *child, const char *format) {
  char path[64], line[128];
  long kb = -1;
  if (child->state == CHILD_DEAD)
    return -1;
  snprintf(path, sizeof path, "/proc/%d/status", child->process->pid);
  FILE *status = fopen(path, "re");
  while (status && fgets(line, sizeof line, status) && sscanf(line, format, &kb) != 1)
    kb = -1;
  if (status)
    fclose(status);
  return kb;
}

int64_t child_memory(const struct child *child) {
  long kb = read_status(child, "VmRSS: %ld kB");
  return kb > 0 ? (int64_t)kb * 1024 : 0;
}

void child_check_process(struct child *child) {
  long kb = read_status(child, "VmHWM: %ld kB");
  if (kb > 0)
    child->peak_kb = kb;
  if (child->partial_since_ms > 0 && clock_ms() - child->partial_since_ms > PARTIAL_MS)
    child_kill(child, "was killed: it sent a part of a frame and no more");
  if (child_seal_is_broken(child) || !child_page_is_intact(child))
    child_kill(child,
               "was killed: something in its process has written over the memory that it shares with the worker");
  if (child_callback_ms(child) > CALLBACK_MS)
    child_kill(child, "was killed: a callback of luv did not return for 30 s");
}

void child_kill(struct child *child, const char *cause) {
  if (child->state == CHILD_DEAD)
    return;
  if (cause && !*child->fault)
    snprintf(child->fault, sizeof child->fault, "%s", cause);
  kill(-child->process->pid, SIGKILL);
}

void child_retire(struct child *child) {
  if (child->state == CHILD_RUNNING)
    child_set_state(child, CHILD_RETIRED);
}

void child_leave(struct child *child) {
  if (child->state == CHILD_DEAD || child->state == CHILD_LEAVING)
    return;
  child_set_state(child, CHILD_LEAVING);
  child_ask_to_leave(child);
}

/* ── its death ── */

static void describe_death(const struct child *child, int64_t status, int signal, char *text, size_t size) {
  if (*child->fault)
    snprintf(text, size, "%s", child->fault);
  else if (signal)
    snprintf(text, size, "was killed by SIG%s", sigabbrev_np(signal) ? sigabbrev_np(signal) : "?");
  else
    snprintf(text, size, "exited with status %d", (int)status);
}

/* Describes the job that was running. */
static void describe_run(const struct child *child, int64_t ran_ms, char *text, size_t size) {
  int length = snprintf(text, size, "for %.3f s", (double)ran_ms / 1000);
  if (child->peak_kb > 0)
    snprintf(text + length, size - (size_t)length, ", peak memory %ld MB", child->peak_kb / 1024);
}

static void on_death(uv_process_t *process, int64_t status, int signal) {
  struct child *child = process->data;
  char cause[160], run[80] = "";
  int64_t id, ran_ms;
  child_read_rest(child);
  bool has_culprit = child_current(child, &id, &ran_ms);
  if (has_culprit)
    describe_run(child, ran_ms, run, sizeof run);
  describe_death(child, status, signal, cause, sizeof cause);
  kill(-process->pid, SIGKILL); /* ends the processes that its handlers have started and left in its group */
  bool orderly = child->state == CHILD_LEAVING && status == 0 && signal == 0 && !*child->fault;
  child_set_state(child, CHILD_DEAD);
  child->page_damaged = !child_page_is_intact(child);
  uv_close((uv_handle_t *)child->socket, free_handle);
  uv_close((uv_handle_t *)process, free_handle);
  buffer_free(&child->in);
  const struct child_death death = {.has_culprit = has_culprit && !child->page_damaged,
                                    .culprit = id,
                                    .orderly = orderly,
                                    .ran_us = ran_ms * 1000,
                                    .cause = cause,
                                    .run = run};
  child->events->died(child->owner, &death);
}
