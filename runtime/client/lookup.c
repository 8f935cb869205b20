#include "lookup.h"

#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STACK_SIZE = 512 << 10 };

/* One thread, and what it has found. It is freed when neither the thread nor a look-up uses it. */
struct query {
  struct query *next; /* in `running` */
  char *host;
  int users; /* look-ups, and the thread */
  bool done;
  int error; /* of getaddrinfo() */
  int count;
  char addresses[LOOKUP_ADDRESSES_MOST][LOOKUP_ADDRESS_SIZE];
  struct lookup *waiting;
};

struct lookup {
  struct query *query;
  struct lookup *next; /* in the query's `waiting` */
  int ends[2];         /* of a pipe; the second one is closed when the query is done */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* protects all that threads share: the queries */
static struct query *running;                             /* the queries that are not done */

static void release(struct query *query) {
  if (--query->users > 0)
    return;
  free(query->host);
  free(query);
}

static void collect(struct query *query, const struct addrinfo *found) {
  for (; found && query->count < LOOKUP_ADDRESSES_MOST; found = found->ai_next)
    if (getnameinfo(found->ai_addr, found->ai_addrlen, query->addresses[query->count], LOOKUP_ADDRESS_SIZE, NULL, 0,
                    NI_NUMERICHOST) == 0)
      query->count++;
}

static void finish(struct query *query) {
  struct query **place = &running;
  pthread_mutex_lock(&mutex);
  while (*place != query)
    place = &(*place)->next;
  *place = query->next;
  query->done = true;
  for (struct lookup *lookup = query->waiting; lookup; lookup = lookup->next) {
    close(lookup->ends[1]);
    lookup->ends[1] = -1;
  }
  release(query);
  pthread_mutex_unlock(&mutex);
}

static void *run(void *argument) {
  struct query *query = argument;
  struct addrinfo *found = NULL, hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  query->error = getaddrinfo(query->host, NULL, &hints, &found);
  if (query->error == 0) {
    collect(query, found);
    freeaddrinfo(found);
  }
  finish(query);
  return NULL;
}

/* Starts a detached thread that receives no signals. Returns 0 when it runs. */
static int start_thread(struct query *query) {
  pthread_attr_t attributes;
  pthread_t thread;
  sigset_t all, before;
  if (pthread_attr_init(&attributes) != 0)
    return -1;
  (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  (void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int status = pthread_create(&thread, &attributes, run, query);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return status;
}

/* Returns the query for this name that runs, or a new one; NULL when there are no resources. The mutex is locked. */
static struct query *find_or_start(const char *host) {
  for (struct query *query = running; query; query = query->next)
    if (strcmp(query->host, host) == 0)
      return query;
  struct query *query = calloc(1, sizeof *query);
  if (!query || !(query->host = strdup(host))) {
    free(query);
    return NULL;
  }
  query->users = 1;
  query->next = running;
  running = query; /* before the thread looks for it */
  if (start_thread(query) == 0)
    return query;
  running = query->next;
  release(query);
  return NULL;
}

static void close_end(int end) {
  if (end >= 0)
    close(end);
}

struct lookup *lookup_start(const char *host) {
  struct lookup *lookup = calloc(1, sizeof *lookup);
  if (!lookup || pipe(lookup->ends) != 0) {
    free(lookup);
    return NULL;
  }
  for (int i = 0; i < 2; i++)
    (void)fcntl(lookup->ends[i], F_SETFD, FD_CLOEXEC);
  pthread_mutex_lock(&mutex);
  struct query *query = find_or_start(host);
  if (query) {
    query->users++;
    lookup->query = query;
    lookup->next = query->waiting;
    query->waiting = lookup;
  }
  pthread_mutex_unlock(&mutex);
  if (query)
    return lookup;
  close_end(lookup->ends[0]);
  close_end(lookup->ends[1]);
  free(lookup);
  return NULL;
}

int lookup_fd(const struct lookup *lookup) {
  return lookup->ends[0];
}

int lookup_take(const struct lookup *lookup, char addresses[LOOKUP_ADDRESSES_MOST][LOOKUP_ADDRESS_SIZE],
                const char **error) {
  const struct query *query = lookup->query;
  pthread_mutex_lock(&mutex);
  bool done = query->done;
  pthread_mutex_unlock(&mutex);
  if (!done)
    return -1;
  memcpy(addresses, query->addresses, sizeof query->addresses);
  *error = query->error ? gai_strerror(query->error) : "the name has no address";
  return query->count;
}

void lookup_free(struct lookup *lookup) {
  if (!lookup)
    return;
  struct lookup **place = &lookup->query->waiting;
  pthread_mutex_lock(&mutex);
  while (*place != lookup)
    place = &(*place)->next;
  *place = lookup->next;
  release(lookup->query);
  pthread_mutex_unlock(&mutex);
  close_end(lookup->ends[0]);
  close_end(lookup->ends[1]);
  free(lookup);
}
