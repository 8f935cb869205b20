#include "cancel.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

enum { STACK_SIZE = 256 << 10 };

/* A process that exits waits this long for its requests: a server that does not answer must not keep it. */
enum { END_MS = 500 };

static _Atomic int pending_requests;

static void wait_for_all(void) {
  for (int waited_ms = 0; atomic_load(&pending_requests) > 0 && waited_ms < END_MS; waited_ms++)
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void *run(void *argument) {
  char ignored[256];
  PGcancel *request = argument;
  (void)PQcancel(request, ignored, sizeof ignored);
  PQfreeCancel(request);
  atomic_fetch_sub(&pending_requests, 1);
  return NULL;
}

/* Starts a detached thread that receives no signals. Returns 0 when it runs. */
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
  static bool registered;
  PGcancel *request = PQgetCancel(conn);
  if (request == NULL)
    return;
  if (!registered)
    registered = atexit(wait_for_all) == 0;
  atomic_fetch_add(&pending_requests, 1);
  if (start(request) == 0)
    return;
  atomic_fetch_sub(&pending_requests, 1);
  PQfreeCancel(request);
}
