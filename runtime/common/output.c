#include "output.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "buffer.h"
#include "clock.h"

/* The most bytes that wait for a stream, beside those that the thread is writing. */
enum { WAITING_MOST = 1 << 20 };

/* Writes of at most this many bytes do not mix with those of other processes on the same pipe. */
enum { PIECE = 4096 };

/* After a failed write the rest of the bytes is dropped. The thread waits, so that a full disk costs no CPU time. */
enum { FAILED_WAIT_MS = 100 };

/* How long an abort waits for the last lines. */
enum { ABORT_WAIT_MS = 500 };

struct stream {
  int fd;
  pthread_mutex_t lock; /* for all fields below */
  pthread_cond_t wake;
  pthread_t thread;
  bool threaded;
  bool asleep; /* the thread waits for `wake` */
  bool ending; /* the thread is to end */
  struct buffer waiting;
  bool dropping;    /* the buffer was full: lines are dropped until half of it is free */
  bool in_line;     /* the last byte that was dropped was not the end of a line */
  bool broken_line; /* the last byte that was not dropped was not the end of a line */
  int64_t dropped;  /* lines that nobody was told of */
};

static struct stream streams[OUTPUT_STREAMS] = {
    [OUTPUT_STDOUT] = {.fd = STDOUT_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER},
    [OUTPUT_STDERR] = {.fd = STDERR_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER},
};
static output_report *report_dropped;
static atomic_ullong pieces;                     /* how many writes have succeeded */
static atomic_llong progress_ms[OUTPUT_STREAMS]; /* when a write has begun or succeeded */
static atomic_int busy[OUTPUT_STREAMS]; /* whether bytes wait or are being written; a signal handler reads it */

static void pause_ms(int ms) {
  nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static int64_t count_lines(const unsigned char *bytes, size_t length) {
  int64_t lines = 0;
  for (const unsigned char *end = bytes + length; (bytes = memchr(bytes, '\n', (size_t)(end - bytes))) != NULL; bytes++)
    lines++;
  return lines;
}

/* Returns the length of the next write: whole lines if possible. */
static size_t piece_length(const unsigned char *bytes, size_t length) {
  if (length <= PIECE)
    return length;
  const unsigned char *newline = memrchr(bytes, '\n', PIECE);
  return newline ? (size_t)(newline - bytes) + 1 : PIECE;
}

/* Writes all bytes, and blocks meanwhile unless `wait` is false. Returns the number of bytes that were written. */
static size_t write_all(const struct stream *stream, const unsigned char *bytes, size_t length, bool wait) {
  size_t written = 0;
  int fd = stream->fd;
  while (written < length) {
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    atomic_store(&progress_ms[stream - streams], clock_ms());
    if (!wait && poll(&writable, 1, 0) != 1)
      break;
    ssize_t n = write(fd, bytes + written, piece_length(bytes + written, length - written));
    atomic_fetch_add(&pieces, n > 0);
    if (n > 0)
      written += (size_t)n;
    else if (n < 0 && errno == EAGAIN) /* another process has set O_NONBLOCK */
      poll(&writable, 1, wait ? -1 : 0);
    else if (n == 0 || errno != EINTR)
      break;
  }
  return written;
}

/* ── the thread ── */

static void drop(struct stream *stream, const unsigned char *bytes, size_t length) {
  if (length == 0)
    return;
  stream->in_line = bytes[length - 1] != '\n';
  stream->dropped += count_lines(bytes, length) + stream->in_line;
}

/* Tells of dropped lines, once bytes could be written again. Called with the lock, which is released meanwhile. */
static void tell_dropped(struct stream *stream) {
  int64_t dropped = stream->dropped;
  if (dropped == 0 || stream->waiting.length > WAITING_MOST / 2)
    return;
  stream->dropped = 0;
  stream->dropping = false;
  pthread_mutex_unlock(&stream->lock);
  report_dropped((enum output_stream)(stream - streams), dropped);
  pthread_mutex_lock(&stream->lock);
}

/* Waits until there are bytes to write. Returns false if the thread is to end. */
static bool wait_for_bytes(struct stream *stream) {
  while (stream->waiting.length == 0 && !stream->ending) {
    stream->asleep = true;
    atomic_store(&busy[stream - streams], 0);
    pthread_cond_wait(&stream->wake, &stream->lock);
    stream->asleep = false;
  }
  return !stream->ending;
}

/* A write that blocks is where the thread may be cancelled, and nowhere else: it holds no lock there. */
static size_t write_cancellable(const struct stream *stream, const struct buffer *bytes) {
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
  size_t written = write_all(stream, bytes->bytes, bytes->length, true);
  if (written < bytes->length)
    pause_ms(FAILED_WAIT_MS);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  return written;
}

static void *run_thread(void *context) {
  struct stream *stream = context;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  pthread_mutex_lock(&stream->lock);
  while (wait_for_bytes(stream)) {
    struct buffer bytes = stream->waiting;
    stream->waiting = (struct buffer){0};
    pthread_mutex_unlock(&stream->lock);
    size_t written = write_cancellable(stream, &bytes);
    pthread_mutex_lock(&stream->lock);
    drop(stream, bytes.bytes + written, bytes.length - written);
    if (written == bytes.length)
      tell_dropped(stream);
    buffer_free(&bytes);
  }
  pthread_mutex_unlock(&stream->lock);
  return NULL;
}

static void start_thread(struct stream *stream) {
  sigset_t all, before;
  sigfillset(&all); /* signals are for the main thread */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  stream->threaded = pthread_create(&stream->thread, NULL, run_thread, stream) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The last line before an abort says why: it must not be lost with the process. */
static void on_abort(int number) {
  (void)number;
  for (int ms = 0; ms < ABORT_WAIT_MS && atomic_load(&busy[OUTPUT_STDERR]); ms++)
    pause_ms(1);
}

void output_start(output_report *report) {
  struct sigaction action = {.sa_handler = on_abort, .sa_flags = (int)SA_RESETHAND};
  report_dropped = report;
  for (int i = 0; i < OUTPUT_STREAMS; i++)
    start_thread(&streams[i]);
  sigaction(SIGABRT, &action, NULL);
}

/* ── the callers ── */

static void add(struct stream *stream, const void *bytes, size_t length) {
  if (length == 0)
    return;
  atomic_store(&busy[stream - streams], 1);
  buffer_add(&stream->waiting, bytes, length);
  stream->broken_line = ((const char *)bytes)[length - 1] != '\n';
  if (stream->asleep)
    pthread_cond_signal(&stream->wake);
}

/* Adds bytes after others were dropped: begins with a whole line. */
static void add_again(struct stream *stream, const unsigned char *bytes, size_t length) {
  const unsigned char *begin = bytes;
  if (stream->in_line) {
    const unsigned char *newline = memchr(bytes, '\n', length);
    if (!newline)
      return;
    begin = newline + 1;
    stream->in_line = false;
  }
  if (stream->broken_line && begin < bytes + length)
    add(stream, "\n", 1);
  add(stream, begin, length - (size_t)(begin - bytes));
}

static void write_threaded(struct stream *stream, const void *bytes, size_t length) {
  pthread_mutex_lock(&stream->lock);
  if (stream->dropping && stream->waiting.length <= WAITING_MOST / 2)
    stream->dropping = false;
  stream->dropping = stream->dropping || stream->waiting.length + length > WAITING_MOST;
  if (stream->dropping)
    drop(stream, bytes, length);
  else
    add_again(stream, bytes, length);
  pthread_mutex_unlock(&stream->lock);
}

void output_write(enum output_stream number, const void *bytes, size_t length) {
  struct stream *stream = &streams[number];
  if (length == 0)
    return;
  if (stream->threaded)
    write_threaded(stream, bytes, length);
  else
    write_all(stream, bytes, length, report_dropped == NULL);
}

bool output_is_full(enum output_stream number) {
  struct stream *stream = &streams[number];
  pthread_mutex_lock(&stream->lock);
  bool full = !stream->dropping && stream->waiting.length > WAITING_MOST / 2;
  pthread_mutex_unlock(&stream->lock);
  return full;
}

bool output_is_stalled(enum output_stream number, int64_t most_ms) {
  return streams[number].threaded && atomic_load(&busy[number]) &&
         clock_ms() - atomic_load(&progress_ms[number]) >= most_ms;
}

static bool is_busy(void) {
  bool any = false;
  for (int i = 0; i < OUTPUT_STREAMS; i++)
    any = any || (streams[i].threaded && atomic_load(&busy[i]));
  return any;
}

/* Ends the thread, and with it a write that blocks. What still waits is lost. */
static void end_thread(struct stream *stream) {
  if (!stream->threaded)
    return;
  pthread_mutex_lock(&stream->lock);
  stream->ending = true;
  pthread_cond_signal(&stream->wake);
  pthread_mutex_unlock(&stream->lock);
  pthread_cancel(stream->thread);
  pthread_join(stream->thread, NULL);
  stream->threaded = false;
  buffer_free(&stream->waiting);
}

void output_stop(int64_t stalled_ms, int64_t most_ms) {
  int64_t now_ms = clock_ms(), until_ms = now_ms + most_ms, moved_ms = now_ms;
  unsigned long long seen = atomic_load(&pieces);
  while (is_busy() && now_ms < until_ms && now_ms < moved_ms + stalled_ms) {
    pause_ms(1);
    now_ms = clock_ms();
    if (atomic_load(&pieces) == seen)
      continue;
    seen = atomic_load(&pieces);
    moved_ms = now_ms;
  }
  for (int i = 0; i < OUTPUT_STREAMS; i++)
    end_thread(&streams[i]);
}
