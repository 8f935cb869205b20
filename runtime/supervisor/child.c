#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "memory.h"
#include "message.h"

enum { READ_SIZE = 64 * 1024 };

/* An executor writes a frame in one go: when the rest does not come, somebody else has written. */
enum { PARTIAL_MS = 5000 };

/* Descriptors below are the child's. */
enum { OWN_FILE_LEAST = 10 };

struct child {
  uv_loop_t *loop;
  const struct child_start *start;
  const struct child_events *events;
  void *owner;
  bool alive, ready, retired;
  uv_process_t *process; /* process and socket have memory of their own: they outlive the child by a turn of the loop */
  uv_pipe_t *socket;
  int page_fd;
  struct shared_page *page;
  struct buffer in;
  char fault[128];          /* why we killed it, "" if we did not */
  int64_t partial_since_ms; /* a frame has begun to come in then; 0: none */
  long peak_kb;             /* of memory, when it was looked at last; 0: never */
};

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

static void configure(struct child *child) {
  const struct child_start *start = child->start;
  struct buffer out = {0};
  size_t mark = frame_begin(&out, FRAME_CONFIGURE);
  message_put_configure(&out, &(struct message_configure){.conninfo = start->conninfo,
                                                          .most_memory = (uint64_t)start->max_memory,
                                                          .script = (uint32_t)start->script,
                                                          .argc = (uint32_t)start->argc,
                                                          .argv = start->argv});
  frame_finish(&out, mark);
  child_send(child, &out);
}

static void on_death(uv_process_t *process, int64_t status, int signal);
static void on_allocate(uv_handle_t *handle, size_t wanted, uv_buf_t *space);
static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *space);

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
  child->ready = child->retired = false;
  child->fault[0] = '\0';
  child->peak_kb = 0;
  child->partial_since_ms = 0;
  uv_read_start((uv_stream_t *)child->socket, on_allocate, on_read);
  configure(child);
  return 0;
}

struct sent {
  uv_write_t request;
  struct buffer bytes;
};

static void on_sent(uv_write_t *request, int status) {
  struct sent *sent = (struct sent *)request;
  (void)status; /* a child that cannot be written to is dying: on_death tells */
  buffer_free(&sent->bytes);
  free(sent);
}

void child_send(struct child *child, struct buffer *frames) {
  if (!child->alive || frames->length == 0) {
    buffer_free(frames);
    return;
  }
  struct sent *sent = memory_new(sizeof *sent);
  sent->bytes = *frames;
  *frames = (struct buffer){0};
  uv_buf_t bytes = uv_buf_init((char *)sent->bytes.bytes, (unsigned)sent->bytes.length);
  if (uv_write(&sent->request, (uv_stream_t *)child->socket, &bytes, 1, on_sent) != 0)
    on_sent(&sent->request, 0);
}

void child_recall(struct child *child, uint32_t batch, uint32_t queue) {
  struct buffer out = {0};
  size_t mark = frame_begin(&out, FRAME_RECALL);
  message_put_recall(&out, &(struct message_recall){.batch = batch, .queue = queue});
  frame_finish(&out, mark);
  child_send(child, &out);
}

void child_serve(struct child *child, const struct message_serve *serve) {
  struct buffer out = {0};
  size_t mark = frame_begin(&out, FRAME_SERVE);
  message_put_serve(&out, serve);
  frame_finish(&out, mark);
  child_send(child, &out);
}

void child_cancel(struct child *child, uint32_t batch, uint32_t index) {
  struct buffer out = {0};
  size_t mark = frame_begin(&out, FRAME_CANCEL);
  message_put_cancel(&out, &(struct message_cancel){.batch = batch, .index = index});
  frame_finish(&out, mark);
  child_send(child, &out);
}

void child_leave(struct child *child) {
  struct buffer out = {0};
  frame_finish(&out, frame_begin(&out, FRAME_LEAVE));
  child_send(child, &out);
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

int64_t child_busy_ms(const struct child *child) {
  int64_t id, ran_ms;
  return child_current(child, &id, &ran_ms) ? (clock_us() - atomic_load(&child->page->resumed_us)) / 1000 : 0;
}

bool child_is_overdue(const struct child *child) {
  int64_t id, ran_ms;
  if (!child_current(child, &id, &ran_ms))
    return false;
  int64_t kill_at_us = atomic_load(&child->page->kill_at_us);
  return kill_at_us > 0 && clock_us() >= kill_at_us;
}

bool child_is_parked(const struct child *child) {
  return child->page && atomic_load(&child->page->parked) != 0;
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

void child_watch(struct child *child) {
  long kb = read_status(child, "VmHWM: %ld kB");
  if (kb > 0)
    child->peak_kb = kb;
  if (child->partial_since_ms > 0 && clock_ms() - child->partial_since_ms > PARTIAL_MS)
    child_kill(child, "was killed: it sent a part of a frame and no more");
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

static void tell_ready(struct child *child, const struct message_ready *ready) {
  struct child_queue *queues = memory_new(ready->queue_count * sizeof *queues);
  struct child_setting *settings = memory_new(ready->setting_count * sizeof *settings);
  for (uint32_t i = 0; i < ready->queue_count; i++)
    queues[i] = (struct child_queue){.name = ready->queues[i].name,
                                     .preserve_completed = ready->queues[i].preserve_completed,
                                     .discard_failed = ready->queues[i].discard_failed,
                                     .timeout_ms = ready->queues[i].timeout_ms,
                                     .concurrency = ready->queues[i].concurrency,
                                     .transactional = ready->queues[i].transactional};
  for (uint32_t i = 0; i < ready->setting_count; i++)
    settings[i] = (struct child_setting){.name = ready->settings[i].name, .value = ready->settings[i].value};
  child->ready = true;
  child->events->ready(child->owner, &(struct child_script){.queues = queues,
                                                            .queue_count = ready->queue_count,
                                                            .settings = settings,
                                                            .setting_count = ready->setting_count});
  free(queues);
  free(settings);
}

static bool take_ready(struct child *child, struct frame *frame) {
  struct message_ready ready;
  if (child->ready || !message_get_ready(frame, &ready))
    return false;
  tell_ready(child, &ready);
  message_free_ready(&ready);
  return true;
}

static bool take_broken(struct child *child, struct frame *frame) {
  size_t length;
  const char *message;
  if (!message_get_broken(frame, &message, &length))
    return false;
  child->events->broken(child->owner, message, length);
  return true;
}

static bool take_outcomes(struct child *child, struct frame *frame) {
  struct message_outcome end;
  bool right = true;
  while (right && frame_left(frame) > 0) {
    right = message_get_outcome(frame, &end);
    struct child_outcome outcome = {.batch = end.batch,
                                    .index = end.index,
                                    .outcome = end.outcome,
                                    .backoff = end.backoff,
                                    .discard = end.discard,
                                    .waited = end.waited,
                                    .wait_ms = end.wait_ms,
                                    .duration_us = end.duration_us,
                                    .busy_us = end.busy_us,
                                    .error = end.error,
                                    .error_length = end.error_length,
                                    .traceback = end.traceback,
                                    .traceback_length = end.traceback_length};
    right = right && child->events->outcome(child->owner, &outcome);
  }
  child->events->outcomes_end(child->owner);
  return right;
}

static bool take_stop(struct child *child, struct frame *frame) {
  if (!frame_end_ok(frame))
    return false;
  child->events->stop(child->owner);
  return true;
}

/* What its handlers, or their callbacks, have to say to people. */
static bool take_log(struct child *child, struct frame *frame) {
  struct message_log said;
  if (!message_get_log(frame, &said))
    return false;
  log_line(said.level, "a handler's executor says", LOG_I("pid", child_pid(child)),
           LOG_B("message", said.text, said.length));
  return true;
}

/* False for a frame that no executor of ours sends. */
static bool take_frame(struct child *child, struct frame *frame) {
  switch (frame->type) {
  case FRAME_READY:
    return take_ready(child, frame);
  case FRAME_BROKEN:
    return take_broken(child, frame);
  case FRAME_OUTCOMES:
    return take_outcomes(child, frame);
  case FRAME_STOP:
    return take_stop(child, frame);
  case FRAME_LOG:
    return take_log(child, frame);
  default:
    return false;
  }
}

/* Handles all whole frames that have come in; a malformed one ends the child. */
static void take_frames(struct child *child) {
  size_t at = 0, size = 0;
  struct frame frame;
  int found = 0;
  while (!*child->fault &&
         (found = frame_next(child->in.bytes + at, child->in.length - at, FRAME_MOST_UP, &frame, &size)) != 0) {
    if (found < 0 || !take_frame(child, &frame)) {
      int type = found > 0 ? frame.type : 0;
      snprintf(child->fault, sizeof child->fault, "was killed: it sent a malformed frame (type %d)", type);
      log_error("an executor sent a malformed frame", LOG_I("pid", child_pid(child)), LOG_I("type", type));
      child_kill(child, NULL);
      break;
    }
    at += size;
  }
  buffer_drop(&child->in, at);
  if (at > 0 || child->in.length == 0)
    child->partial_since_ms = 0;
  if (child->in.length > 0 && child->partial_since_ms == 0)
    child->partial_since_ms = clock_ms();
}

static void on_allocate(uv_handle_t *handle, size_t wanted, uv_buf_t *space) {
  struct child *child = handle->data;
  (void)wanted;
  *space = uv_buf_init(buffer_space(&child->in, READ_SIZE), READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *space) {
  struct child *child = stream->data;
  (void)space;
  if (length < 0) { /* it closed its end: it is dying, or of no more use */
    uv_read_stop(stream);
    child_kill(child, NULL);
    return;
  }
  child->in.length += (size_t)length;
  take_frames(child);
}

/* SIGCHLD may come before the last bytes have been read. */
static void read_rest(struct child *child) {
  int fd;
  ssize_t length;
  if (uv_fileno((uv_handle_t *)child->socket, &fd) != 0)
    return;
  while ((length = recv(fd, buffer_space(&child->in, READ_SIZE), READ_SIZE, MSG_DONTWAIT)) > 0)
    child->in.length += (size_t)length;
  take_frames(child);
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
  read_rest(child);
  if (child_current(child, &id, &ran_ms))
    describe_run(child, ran_ms, run, sizeof run);
  describe_death(child, status, signal, cause, sizeof cause);
  kill(-process->pid, SIGKILL); /* what its handlers left running in its group */
  child->alive = child->ready = false;
  uv_close((uv_handle_t *)child->socket, free_handle);
  uv_close((uv_handle_t *)process, free_handle);
  buffer_free(&child->in);
  child->events->died(child->owner, &(struct child_death){id, ran_ms * 1000, cause, run});
}
