#include "child_state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "memory.h"

/* An executor writes a frame in one go: when the rest does not come, somebody else has written. */
enum { PARTIAL_MS = 5000 };

/* A callback of luv is nobody's handler, and so has no time limit but this. */
enum { CALLBACK_MS = 30000 };

/* Descriptors below are the child's. */
enum { OWN_FILE_LEAST = 10 };

struct child *child_new(uv_loop_t *loop, const struct child_start *start, const struct child_events *events,
                        void *owner) {
  struct child *child = memory_new(sizeof *child);
  *child = (struct child){.loop = loop, .start = start, .events = events, .owner = owner, .page_fd = -1};
  return child;
}

static int make_page(struct child *child) {
  if (child->page) {
    memset(child->page, 0, sizeof *child->page);
    return 0;
  }
  child->page_fd = memfd_create("pgq-lua executor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (child->page_fd < 0 || ftruncate(child->page_fd, sizeof *child->page) != 0 ||
      fcntl(child->page_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) /* a handler may try */
    return -1;
  void *page = mmap(NULL, sizeof *child->page, PROT_READ | PROT_WRITE, MAP_SHARED, child->page_fd, 0);
  if (page == MAP_FAILED)
    return -1;
  child->page = page;
  return 0;
}

static void free_handle(uv_handle_t *handle) {
  free(handle);
}

static void on_death(uv_process_t *process, int64_t status, int signal);

/*
 * The program that runs, for starting it once more: held open, so that it is this one even when the file has been
 * replaced meanwhile. (Under valgrind /proc/self/exe is valgrind's own program, but its link reads as ours.)
 */
static const char *own_file(void) {
  static char file[32];
  char path[4096];
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
  return *file ? file : "/proc/self/exe";
}

static int spawn(struct child *child) {
  char *arguments[] = {"pgq-lua", "executor", child->start->argv[child->start->script], NULL};
  uv_stdio_container_t descriptors[] = {
      {.flags = UV_IGNORE},
      {.flags = UV_INHERIT_FD, .data.fd = STDOUT_FILENO},
      {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
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

int child_start(struct child *child) {
  if (make_page(child) != 0) {
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
  child->alive = true;
  child->ready = child->retired = child->leaves = false;
  child->fault[0] = '\0';
  child->peak_kb = 0;
  child->partial_since_ms = 0;
  child_listen(child);
  child_configure(child);
  return 0;
}

void child_kill(struct child *child, const char *cause) {
  if (!child->alive)
    return;
  if (cause && !*child->fault)
    snprintf(child->fault, sizeof child->fault, "%s", cause);
  kill(-child->process->pid, SIGKILL);
}

void child_retire(struct child *child) {
  child->retired = true;
}

static struct page_lane *lane_of(const struct child *child, uint32_t batch) {
  return &child->page->lanes[batch % HOLDS_PER_EXECUTOR];
}

void child_begin_batch(struct child *child, uint32_t batch) {
  if (child->page)
    atomic_store(&lane_of(child, batch)->revoked, batch - HOLDS_PER_EXECUTOR);
}

uint32_t child_begun(const struct child *child, uint32_t batch) {
  uint64_t begun = child->page ? atomic_load(&lane_of(child, batch)->begun) : 0;
  return begun >> 32 == batch ? (uint32_t)begun : 0;
}

bool child_has_begun(const struct child *child, uint32_t batch, uint32_t position) {
  uint64_t begun = child->page ? atomic_load(&lane_of(child, batch)->begun) : 0;
  int32_t beyond = (int32_t)((uint32_t)(begun >> 32) - batch);
  return beyond > 0 || (beyond == 0 && position <= (uint32_t)begun);
}

uint32_t child_revoke(struct child *child, uint32_t batch) {
  if (child->page)
    atomic_store(&lane_of(child, batch)->revoked, batch);
  return child_begun(child, batch);
}

bool child_current(const struct child *child, int64_t *id, int64_t *ran_ms) {
  *id = child->page ? atomic_load(&child->page->current_job) : 0;
  *ran_ms = *id ? (clock_us() - atomic_load(&child->page->started_us)) / 1000 : 0;
  return child->alive && *id != 0;
}

/* For how long a callback of luv has run; 0 for none. */
static int64_t callback_ms(const struct child *child) {
  int64_t began_us = child->page ? atomic_load(&child->page->callback_us) : 0;
  return began_us ? (clock_us() - began_us) / 1000 : 0;
}

int64_t child_busy_ms(const struct child *child) {
  int64_t id, ran_ms;
  if (child_current(child, &id, &ran_ms))
    return (clock_us() - atomic_load(&child->page->resumed_us)) / 1000;
  return child->alive ? callback_ms(child) : 0;
}

bool child_is_overdue(const struct child *child) {
  int64_t id, ran_ms;
  if (!child_current(child, &id, &ran_ms))
    return false;
  int64_t kill_at_us = atomic_load(&child->page->kill_at_us);
  return kill_at_us > 0 && clock_us() >= kill_at_us;
}

bool child_is_all_waiting(const struct child *child) {
  return child->page && atomic_load(&child->page->all_waiting) != 0;
}

/* A line of /proc/PID/status, in kB; -1 when it is not there. */
static long read_status(const struct child *child, const char *format) {
  char path[64], line[128];
  long kb = -1;
  if (!child->alive)
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
  if (callback_ms(child) > CALLBACK_MS)
    child_kill(child, "was killed: a callback of luv did not return for 30 s");
}

bool child_is_alive(const struct child *child) {
  return child->alive;
}

bool child_is_ready(const struct child *child) {
  return child->alive && child->ready && !child->retired;
}

int child_pid(const struct child *child) {
  return child->alive ? child->process->pid : 0;
}

void child_free(struct child *child) {
  if (!child)
    return;
  if (child->page)
    munmap(child->page, sizeof *child->page);
  if (child->page_fd >= 0)
    close(child->page_fd);
  buffer_free(&child->in);
  free(child);
}

static void describe_death(const struct child *child, int64_t status, int signal, char *text, size_t size) {
  if (*child->fault)
    snprintf(text, size, "%s", child->fault);
  else if (signal)
    snprintf(text, size, "was killed by SIG%s", sigabbrev_np(signal) ? sigabbrev_np(signal) : "?");
  else
    snprintf(text, size, "exited with status %d", (int)status);
}

/* How the job that was running had fared. */
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
  if (child_current(child, &id, &ran_ms))
    describe_run(child, ran_ms, run, sizeof run);
  describe_death(child, status, signal, cause, sizeof cause);
  kill(-process->pid, SIGKILL); /* what its handlers left running in its group */
  child->alive = child->ready = false;
  uv_close((uv_handle_t *)child->socket, free_handle);
  uv_close((uv_handle_t *)process, free_handle);
  buffer_free(&child->in);
  const struct child_death death = {.culprit = id,
                                    .orderly = child->leaves && status == 0 && signal == 0 && !*child->fault,
                                    .ran_us = ran_ms * 1000,
                                    .cause = cause,
                                    .run = run};
  child->events->died(child->owner, &death);
}
