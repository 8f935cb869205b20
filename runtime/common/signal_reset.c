#include "signal_reset.h"

#include <signal.h>
#include <stddef.h>

void signal_reset(void) {
  sigset_t none;
  struct sigaction action;
  for (int number = 1; number <= SIGRTMAX; number++)
    if (number != SIGHUP && sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
      signal(number, SIG_DFL);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}
