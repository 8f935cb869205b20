#include "dev.h"

#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "dev_folder.h"
#include "dev_programs.h"
#include "refusal.h"

enum {
  LOOK_MS = 20,
  START_MS = 60000, /* recovery after a crash may take long; a server that dies is noticed at once */
  STOP_MS = 60000,
  SILENCE_MS = 2000, /* a server that has just started may not have its socket yet */
};

static void pause_ms(int ms) {
  struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
  nanosleep(&time, NULL);
}

static PGPing ping(const char *socket, char *conninfo, size_t size) {
  snprintf(conninfo, size, "host=%s port=5432 dbname=postgres user=postgres", socket);
  return PQping(conninfo);
}

/*
 * libpq takes parameters that a connection string does not set from variables, and from the service that PGSERVICE
 * names. These are about other servers: with PGREQUIREPEER, for example, the private server could not be reached.
 */
static void forget_other_servers(void) {
  static const char *const kept[] = {"PGAPPNAME", "PGCONNECT_TIMEOUT"};
  static const char *const more[] = {"PGSERVICE",   "PGSERVICEFILE", "PGSYSCONFDIR", "PGREQUIRESSL",
                                     "PGDATESTYLE", "PGTZ",          "PGGEQO"};
  PQconninfoOption *options = PQconninfoParse("", NULL);
  for (const PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++)
    if (option->envvar != NULL && strcmp(option->envvar, kept[0]) != 0 && strcmp(option->envvar, kept[1]) != 0)
      unsetenv(option->envvar);
  for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
    unsetenv(more[i]);
  PQconninfoFree(options);
}

/* Whether the running server accepts connections on the recorded socket; if so, sets `conninfo`. */
static bool answers(const struct dev_folder *folder, const struct dev_programs *programs, char *conninfo, size_t size) {
  char socket[DEV_SOCKET_SIZE];
  int64_t silent_until = clock_ms() + SILENCE_MS;
  int64_t busy_until = clock_ms() + START_MS;
  pid_t stale;
  while (dev_postmaster(folder, &stale) != 0 && dev_socket_path(folder, programs->uid, socket, sizeof(socket))) {
    PGPing state = ping(socket, conninfo, size);
    if (state == PQPING_OK)
      return true;
    if (clock_ms() > (state == PQPING_REJECT ? busy_until : silent_until))
      return false;
    pause_ms(LOOK_MS);
  }
  return false;
}

/* Stops the server and waits for its end. Returns 1; 0 if it was not running; or -1 and a message. */
static int stop_server(const struct dev_folder *folder, char *message, size_t size) {
  pid_t stale, pid = dev_postmaster(folder, &stale);
  int result = pid != 0;
  int64_t deadline = clock_ms() + STOP_MS;
  if (pid != 0 && kill(pid, SIGINT) == -1 && errno != ESRCH)
    return dev_fail(message, size, "cannot stop the server (process %ld): %s", (long)pid, strerror(errno));
  while (pid != 0 && dev_runs(folder, pid)) {
    if (clock_ms() > deadline)
      return dev_fail(message, size, "the server (process %ld) has not stopped within %d seconds; see .pgq-dev/log",
                      (long)pid, STOP_MS / 1000);
    pause_ms(LOOK_MS);
  }
  return result;
}

static off_t log_size(const struct dev_folder *folder) {
  struct stat status;
  return fstatat(folder->fd, "log", &status, 0) == 0 ? status.st_size : 0;
}

/* Writes the message for a program that failed, with the log from the byte `from` on. */
static int fail_with_log(const struct dev_folder *folder, const char *what, off_t from, char *message, size_t size) {
  char tail[2048];
  dev_folder_tail(folder, from, tail, sizeof(tail));
  return dev_fail(message, size, "%s; the end of .pgq-dev/log:\n%s\n%s", what, tail[0] == '\0' ? "(empty)" : tail,
                  "solve the problem, or remove the folder .pgq-dev, which only has this database, and start again");
}

/* Tries once to start the server. Returns 0, or -1 with a message. */
static int try_start(const struct dev_folder *folder, const struct dev_programs *programs, char *message, size_t size) {
  char socket[DEV_SOCKET_SIZE], conninfo[256];
  struct dev_start start;
  off_t from = log_size(folder);
  pid_t stale;
  (void)dev_postmaster(folder, &stale);
  dev_socket_remove(folder, programs->uid);
  if (dev_socket_new(folder, programs->uid, programs->gid, socket, sizeof(socket)) == -1)
    return dev_fail(message, size, "cannot create a folder for the server's socket in /tmp: %s", strerror(errno));
  if (dev_start(&start, folder, programs, socket, stale) == -1)
    return dev_fail(message, size, "cannot start the server: %s", strerror(errno));
  for (int64_t deadline = clock_ms() + START_MS; clock_ms() < deadline; pause_ms(LOOK_MS)) {
    if (ping(socket, conninfo, sizeof(conninfo)) == PQPING_OK) {
      dev_start_release(&start);
      return 0;
    }
    if (dev_start_failed(&start)) {
      dev_socket_remove(folder, programs->uid);
      return fail_with_log(folder, "the server did not start", from, message, size);
    }
  }
  dev_start_release(&start);
  return fail_with_log(folder, "the server did not accept connections within a minute", from, message, size);
}

static int start_server(const struct dev_folder *folder, const struct dev_programs *programs, char *message,
                        size_t size) {
  /* After a server was killed, its children live on for a moment; until then no other server can start. */
  for (int attempt = 0; attempt < 40; attempt++) {
    if (try_start(folder, programs, message, size) == 0)
      return 0;
    if (strstr(message, "shared memory block") == NULL)
      return -1;
    pause_ms(250);
  }
  return -1;
}

static int create_cluster(const struct dev_folder *folder, const struct dev_programs *programs, char *message,
                          size_t size) {
  off_t from = log_size(folder);
  if (dev_initdb(folder, programs) == 0)
    return 0;
  return fail_with_log(folder, "initdb could not create the database", from, message, size);
}

static int ensure(const struct dev_folder *folder, struct dev_server *server, char *message, size_t size) {
  struct dev_programs programs;
  if (dev_find_user(folder, &programs, message, size) == -1)
    return -1;
  if (answers(folder, &programs, server->conninfo, sizeof(server->conninfo)))
    return 0;
  /* Restart a server that cannot be reached: its socket may have been removed from /tmp. */
  if (stop_server(folder, message, size) == -1 || dev_find_bindir(folder, &programs, message, size) == -1)
    return -1;
  if (faccessat(folder->fd, "data", F_OK, AT_SYMLINK_NOFOLLOW) == -1 &&
      create_cluster(folder, &programs, message, size) == -1)
    return -1;
  if (start_server(folder, &programs, message, size) == -1)
    return -1;
  if (answers(folder, &programs, server->conninfo, sizeof(server->conninfo)))
    return 0;
  return dev_fail(message, size, "the server ended right after its start; see .pgq-dev/log");
}

/* Whether the database lacks the tables: a command that created the cluster may have been stopped before it created
 * them. */
static bool lacks_tables(const char *conninfo) {
  PGconn *connection = PQconnectdb(conninfo);
  PGresult *result = PQexec(connection, "SELECT FROM pg_catalog.pg_class WHERE relname = 'pgq_jobs'");
  bool lacks = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 0;
  PQclear(result);
  PQfinish(connection);
  return lacks;
}

int dev_ensure(struct dev_server *server, char *message, size_t size) {
  struct dev_folder folder;
  forget_other_servers();
  if (dev_folder_open(&folder, true, message, size) == -1)
    return -1;
  int result = ensure(&folder, server, message, size);
  dev_folder_close(&folder);
  server->created = result == 0 && lacks_tables(server->conninfo);
  return result;
}

/* --- pgq-lua dev … -------------------------------------------------------------------------------------------------
 */

static int complain(const char *message) {
  fprintf(stderr, "pgq-lua: %s\n", message);
  return 1;
}

static int command_start(void) {
  char message[DEV_MESSAGE_SIZE];
  struct dev_server server;
  if (dev_ensure(&server, message, sizeof(message)) == -1)
    return complain(message);
  printf("running: %s\n", server.conninfo);
  return 0;
}

static int command_conninfo(void) {
  char message[DEV_MESSAGE_SIZE];
  struct dev_server server;
  if (dev_ensure(&server, message, sizeof(message)) == -1)
    return complain(message);
  puts(server.conninfo);
  return 0;
}

static int command_stop(void) {
  char message[DEV_MESSAGE_SIZE];
  struct dev_folder folder;
  struct dev_programs programs;
  int opened = dev_folder_open(&folder, false, message, sizeof(message));
  if (opened <= 0)
    return opened == 0 ? 0 : complain(message);
  int result = dev_find_user(&folder, &programs, message, sizeof(message));
  if (result == 0)
    result = stop_server(&folder, message, sizeof(message));
  if (result >= 0)
    dev_socket_remove(&folder, programs.uid);
  dev_folder_close(&folder);
  return result == -1 ? complain(message) : 0;
}

static int command_status(void) {
  char message[DEV_MESSAGE_SIZE], conninfo[256];
  struct dev_folder folder;
  struct dev_programs programs;
  pid_t stale;
  int opened = dev_folder_open(&folder, false, message, sizeof(message));
  if (opened == -1)
    return complain(message);
  pid_t pid = opened == 1 ? dev_postmaster(&folder, &stale) : 0;
  bool reachable = pid != 0 && dev_find_user(&folder, &programs, message, sizeof(message)) == 0 &&
                   answers(&folder, &programs, conninfo, sizeof(conninfo));
  if (opened == 1)
    dev_folder_close(&folder);
  if (reachable)
    printf("running, process %ld: %s\n", (long)pid, conninfo);
  else if (pid != 0)
    printf("process %ld runs, but does not accept connections; see .pgq-dev/log\n", (long)pid);
  else
    puts("not running");
  return reachable ? 0 : 3;
}

int dev_command(int argc, char **argv) {
  static const struct {
    const char *name;
    int (*run)(void);
  } verbs[] = {
      {"start", command_start}, {"stop", command_stop}, {"status", command_status}, {"conninfo", command_conninfo}};
  forget_other_servers();
  for (size_t i = 0; argc == 2 && i < sizeof(verbs) / sizeof(verbs[0]); i++)
    if (strcmp(argv[1], verbs[i].name) == 0)
      return verbs[i].run();
  return refuse("dev", "dev start|stop|status|conninfo", "write one of: start, stop, status, conninfo");
}
