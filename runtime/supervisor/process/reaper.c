#include "reaper.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

bool reaper_is_needed(void) {
  int subreaper = 0;
  return getpid() == 1 || (prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper);
}

bool reaper_run(bool (*is_executor)(void *owner, pid_t pid), void *owner) {
  for (;;) {
    siginfo_t ended = {.si_pid = 0};
    if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == 0)
      return false;
    if (is_executor(owner, ended.si_pid))
      return true;
    waitpid(ended.si_pid, NULL, WNOHANG);
  }
}
