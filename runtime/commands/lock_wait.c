#include "lock_wait.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "commands_sql.h"
#include "duration.h"

/* When it is asked who has the lock: first, and how often then. Statements that only read give up after two seconds. */
enum { FIRST_MS = 2000, AGAIN_MS = 2000, SILENT_FIRST_MS = 400, SILENT_AGAIN_MS = 500 };

/* How long to wait at most before the flag of a signal handler is looked at, which may be set just before poll(). */
enum { LOOK_MS = 200 };

#define ASK_TIMEOUT_MS "2000"

/* ── signals while a statement waits ── */

static PGcancel *volatile waiting; /* what the signal handler cancels */

/* Both functions may be called in a signal handler. */
static void on_signal(int signal) {
  char error[256];
  if (waiting)
    PQcancel(waiting, error, sizeof error);
  raise(signal); /* the default action was set again: the process ends when this returns */
}

struct caught {
  struct sigaction before[2];
};

static const int ending[] = {SIGINT, SIGTERM};

/* Signals that are ignored, or have a handler, stay as they are. */
static void catch_signals(struct caught *caught, PGconn *conn) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
  sigemptyset(&action.sa_mask);
  waiting = PQgetCancel(conn);
  for (int i = 0; i < 2; i++) {
    sigaction(ending[i], NULL, &caught->before[i]);
    if (caught->before[i].sa_handler == SIG_DFL)
      sigaction(ending[i], &action, NULL);
  }
}

static void release_signals(const struct caught *caught) {
  for (int i = 0; i < 2; i++)
    if (caught->before[i].sa_handler == SIG_DFL)
      sigaction(ending[i], &caught->before[i], NULL);
  PGcancel *cancel = waiting;
  waiting = NULL;
  PQfreeCancel(cancel);
}

bool lock_wait_is_interrupted(const struct lock_wait *wait) {
  return wait->interrupted && *wait->interrupted;
}

/* ── who has the lock ── */

/* Connects to the same server as the same user. Returns the connection, which may be broken. */
static PGconn *connect_again(PGconn *conn) {
  enum { MOST = 64 };
  const char *keywords[MOST + 1] = {NULL}, *values[MOST + 1] = {NULL};
  int count = 0;
  PQconninfoOption *options = PQconninfo(conn);
  for (PQconninfoOption *option = options; option && option->keyword && count < MOST; option++) {
    const char *keyword = option->keyword;
    const char *value = strcmp(keyword, "host") == 0       ? PQhost(conn)
                        : strcmp(keyword, "hostaddr") == 0 ? (option->val ? PQhostaddr(conn) : NULL)
                        : strcmp(keyword, "port") == 0     ? PQport(conn)
                                                           : option->val;
    if (!value || !*value)
      continue;
    keywords[count] = keyword;
    values[count++] = value;
  }
  PGconn *again = PQconnectdbParams(keywords, values, 0);
  PQconninfoFree(options);
  return again;
}

/* What is known about a statement that waits. */
struct watched {
  PGconn *asker;  /* the second connection; NULL until something is asked */
  char seen[200]; /* who was in the way */
  int unfound;    /* how many answers in a row have found no lock */
};

/* Asks who has the lock, and writes `holders`. One answer without a lock changes nothing: the server may just have
 * ended the wait, because it was too long. Returns whether somebody else is in the way now. */
static bool ask(struct lock_wait *wait, struct watched *watched) {
  char pid[16];
  PGconn **asker = &watched->asker;
  PGresult *result = NULL;
  if (!*asker)
    *asker = connect_again(wait->conn);
  snprintf(pid, sizeof pid, "%d", wait->pid);
  PQclear(PQexec(*asker, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"));
  PQclear(PQexecParams(*asker, SQL_COMMAND_SETTINGS, 2, NULL, (const char *[]){ASK_TIMEOUT_MS, ASK_TIMEOUT_MS}, NULL,
                       NULL, 0));
  result = PQexecParams(*asker, SQL_LOCK_HOLDERS, 1, NULL, (const char *[]){pid}, NULL, NULL, 0);
  bool found = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0;
  bool changed = found && strncmp(watched->seen, PQgetvalue(result, 0, 3), sizeof watched->seen - 1) != 0;
  watched->unfound = found ? 0 : watched->unfound + 1;
  if (watched->unfound > 1)
    wait->holders[0] = '\0';
  if (found)
    snprintf(wait->holders, sizeof wait->holders, "%.200s is locked by %.1000s; %.350s", PQgetvalue(result, 0, 0),
             PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 2));
  if (changed)
    snprintf(watched->seen, sizeof watched->seen, "%s", PQgetvalue(result, 0, 3));
  PQclear(result);
  PQclear(PQexec(*asker, "ROLLBACK"));
  return changed;
}

static void say(const struct lock_wait *wait) {
  char limit[DURATION_TEXT_SIZE];
  duration_format(wait->limit_ms, limit);
  fprintf(stderr, "pgq-lua %s: waiting for at most %s: %s\n", wait->command, limit, wait->holders);
}

/* ── waiting ── */

/* Waits until the result is there, at most so long. Returns whether it is there, or the connection is lost. */
static bool wait_until(PGconn *conn, int64_t until_ms) {
  int64_t left_ms = until_ms - clock_ms();
  struct pollfd socket = {.fd = PQsocket(conn), .events = POLLIN};
  int ready = poll(&socket, 1, left_ms > LOOK_MS ? LOOK_MS : left_ms > 0 ? (int)left_ms : 0);
  if (ready < 0 && errno != EINTR)
    return true;
  return ready > 0 ? PQconsumeInput(conn) != 1 || !PQisBusy(conn) : false;
}

static void cancel(PGconn *conn) {
  char error[256];
  PGcancel *request = PQgetCancel(conn);
  PQcancel(request, error, sizeof error);
  PQfreeCancel(request);
}

/* Waits for the result, and asks meanwhile who has the lock. */
static void watch(struct lock_wait *wait) {
  struct watched watched = {0};
  bool cancelled = false;
  int64_t ask_ms = clock_ms() + (wait->silent ? SILENT_FIRST_MS : FIRST_MS);
  while (PQsocket(wait->conn) >= 0 && !wait_until(wait->conn, ask_ms)) {
    bool interrupted = lock_wait_is_interrupted(wait) && !cancelled;
    if (clock_ms() < ask_ms && !interrupted)
      continue;
    if (wait->pid && ask(wait, &watched) && !wait->silent && !interrupted)
      say(wait);
    ask_ms = clock_ms() + (wait->silent ? SILENT_AGAIN_MS : AGAIN_MS);
    if (interrupted && *wait->holders) {
      cancelled = true;
      cancel(wait->conn);
    }
  }
  PQfinish(watched.asker);
}

PGresult *lock_wait_result(struct lock_wait *wait) {
  struct caught caught;
  PGresult *last = NULL, *next;
  wait->holders[0] = '\0';
  catch_signals(&caught, wait->conn);
  if (PQisBusy(wait->conn))
    watch(wait);
  while ((next = PQgetResult(wait->conn))) {
    PQclear(last);
    last = next;
  }
  release_signals(&caught);
  return last;
}
