#include "stop_signals.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "reaper.h"

/* See stop_signals.h. */
enum { DOUBLED_MS = 100, DOUBLED_GRACE_MS = 5000, REPEAT_MS = 1000, REPEAT_GRACE_MS = 2000 };

/* Libuv asks for the status of an ended executor within this time. */
enum { REAP_AGAIN_MS = 20 };

static void take_stop(struct stop_signals *signals, int number, const char *name) {
  int64_t now_ms = clock_ms(), since_ms = now_ms - signals->first_ms;
  if (signals->first_ms == 0) {
    signals->first_ms = now_ms;
    signals->first_number = number;
    signals->events->stop(signals->owner, name);
  } else if (since_ms >= REPEAT_MS) {
    signals->events->hurry(signals->owner, 0);
  } else if (number != signals->first_number || signals->events->is_stuck(signals->owner)) {
    signals->events->hurry(signals->owner, (since_ms < DOUBLED_MS ? DOUBLED_GRACE_MS : REPEAT_GRACE_MS) - since_ms);
  }
}

static void reap(struct stop_signals *signals);

static void on_reap_again(uv_timer_t *timer) {
  reap(timer->data);
}

static void reap(struct stop_signals *signals) {
  if (reaper_run(signals->events->is_executor, signals->owner))
    uv_timer_start(&signals->reap_timer, on_reap_again, REAP_AGAIN_MS, 0);
}

/* Whether the process has a terminal that controls it. */
static bool has_terminal(void) {
  int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);
  if (fd >= 0)
    close(fd);
  return fd >= 0;
}

/* HUP tells the processes of a terminal that it has gone. Otherwise somebody asks for a reload. */
static void take_hangup(struct stop_signals *signals, const char *name) {
  if (signals->has_terminal && !has_terminal())
    signals->events->stop(signals->owner, name);
  else
    signals->events->reload(signals->owner, name);
}

static void on_signal(uv_signal_t *handle, int number) {
  struct stop_signals *signals = handle->data;
  char name[16];
  snprintf(name, sizeof name, "SIG%s", sigabbrev_np(number));
  switch (number) {
  case SIGCHLD:
    reap(signals);
    break;
  case SIGHUP:
    take_hangup(signals, name);
    break;
  case SIGUSR1:
  case SIGUSR2:
    log_info("signal ignored", LOG_T("signal", name));
    break;
  default:
    take_stop(signals, number, name);
  }
}

static void ignore_others(void) {
  static const int ignored[] = {SIGPIPE, SIGXFSZ, SIGTTOU, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSTKFLT};
  for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
    signal(ignored[i], SIG_IGN);
  for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
    signal(number, SIG_IGN);
}

static bool is_ignored(int number) {
  struct sigaction action;
  return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

void stop_signals_start(struct stop_signals *signals, uv_loop_t *loop, const struct signal_events *events,
                        void *owner) {
  static const int taken[STOP_SIGNALS] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
  signals->events = events;
  signals->has_terminal = has_terminal();
  signals->owner = owner;
  ignore_others();
  for (int i = 0; i < STOP_SIGNALS; i++) {
    uv_signal_init(loop, &signals->handles[i]);
    signals->handles[i].data = signals;
    if ((taken[i] != SIGHUP || !is_ignored(SIGHUP)) && (taken[i] != SIGCHLD || reaper_is_needed()))
      uv_signal_start(&signals->handles[i], on_signal, taken[i]);
  }
  uv_timer_init(loop, &signals->reap_timer);
  signals->reap_timer.data = signals;
}

void stop_signals_close(struct stop_signals *signals) {
  for (int i = 0; i < STOP_SIGNALS; i++)
    uv_close((uv_handle_t *)&signals->handles[i], NULL);
  uv_close((uv_handle_t *)&signals->reap_timer, NULL);
}
