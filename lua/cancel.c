#include "cancel.h"

#include <pthread.h>
#include <signal.h>

enum { STACK_SIZE = 256 << 10 };

static void *run(void *argument) {
  char ignored[256];
  PGcancel *request = argument;
  (void)PQcancel(request, ignored, sizeof ignored);
  PQfreeCancel(request);
  return NULL;
}

/* Starts a thread that gets no signals and is waited for by nobody. Returns 0 when it runs. */
static int start(void *argument) {
  pthread_attr_t attributes;
  pthread_t thread;
  sigset_t all, before;
  if (pthread_attr_init(&attributes) != 0)
    return -1;
  (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  (void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int status = pthread_create(&thread, &attributes, run, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return status;
}

void cancel_detached(PGconn *conn) {
  PGcancel *request = PQgetCancel(conn);
  if (request != NULL && start(request) != 0)
    PQfreeCancel(request);
}
