#include "forked.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "protocol.h"

enum { PARENT = 1 };

/* One byte in a page of its own, which the kernel fills with zeroes in a child, however the child was made. */
static volatile char fallback = PARENT, *mark = &fallback;
static pid_t own_pid;
static uv_loop_t *own_loop;

/* Before fork(), so that the child does not write what the parent has printed and not flushed. */
static void before_fork(void) {
  fflush(stdout);
}

/* What the child wrote to these, its parent would read: in libuv's pipe of signals there are pointers. The numbers stay
 * in use, so that no file that the child opens gets them. */
static void in_child(void) {
  const int shared[] = {EXECUTOR_SOCKET,
                        uv_backend_fd(own_loop),
                        own_loop->signal_pipefd[0],
                        own_loop->signal_pipefd[1],
                        own_loop->async_io_watcher.fd,
                        own_loop->async_wfd};
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  *mark = 0;
  for (size_t i = 0; null >= 0 && i < sizeof shared / sizeof shared[0]; i++)
    if (shared[i] >= 0)
      dup3(null, shared[i], O_CLOEXEC);
  close(null);
}

void forked_prepare(uv_loop_t *loop) {
  size_t size = (size_t)sysconf(_SC_PAGESIZE);
  char *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  own_pid = getpid();
  own_loop = loop;
  if (page != MAP_FAILED) {
    *page = PARENT;
    mark = page;
    (void)madvise(page, size, MADV_WIPEONFORK); /* if the kernel has no such thing, in_child() writes the mark */
  }
  pthread_atfork(before_fork, NULL, in_child);
}

bool forked_is_child(void) {
  return *mark != PARENT;
}

bool forked_is_other_process(void) {
  return own_pid != 0 && getpid() != own_pid;
}

void forked_end(bool failed, const char *error, size_t length) {
  static const char waits[] = "its handler waits, and it has no loop";
  if (failed && !error) {
    error = waits;
    length = sizeof waits - 1;
  }
  if (failed)
    fprintf(stderr, "pgq-lua executor: a process that a handler has forked ends: %.*s\n",
            (int)(length < ERROR_TEXT_MOST ? length : ERROR_TEXT_MOST), error);
  fflush(NULL);
  _exit(failed ? 1 : 0);
}
