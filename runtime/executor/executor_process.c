/* The executor as a process: its signals, its parent's death, the shared page. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "executor_state.h"
#include "memory.h"
#include "process_state.h"
#include "protocol.h"
#include "signal_reset.h"

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

void executor_prepare_process(pid_t supervisor) {
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

/* libuv's signal handler is there while a signal is watched. */
void executor_prepare_settings(struct executor *e) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  uv_signal_t *signal = &e->signal;
  uv_signal_init(&e->loop, signal);
  if (uv_signal_start(signal, ignore_luv_signal, SIGWINCH) == 0)
    sigaction(SIGWINCH, NULL, &action);
  process_state_prepare(action.sa_handler);
  uv_close((uv_handle_t *)signal, NULL);
}

struct shared_page *executor_map_page(void) {
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
