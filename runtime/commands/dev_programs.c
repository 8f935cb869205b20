#include "dev_programs.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The descriptor of the cluster's folder in the processes of the server. */
#define DATA_FD 3

/* A child closes inherited descriptors up to this one. */
#define MOST_FDS 65536

/* --- The user ------------------------------------------------------------------------------------------------------
 */

static void use_user(struct dev_programs *programs, uid_t uid, gid_t gid, const char *name) {
  programs->uid = uid;
  programs->gid = gid;
  snprintf(programs->user, sizeof(programs->user), "%s", name);
}

static int use_unprivileged(struct dev_programs *programs, char *message, size_t size) {
  const struct passwd *entry = getpwnam("postgres");
  if (entry == NULL)
    entry = getpwnam("nobody");
  if (entry == NULL || entry->pw_uid == 0)
    return dev_fail(message, size,
                    "Postgres refuses to run as root, and there is no user 'postgres' or 'nobody' to run it as; run "
                    "pgq-lua as another "
                    "user");
  use_user(programs, entry->pw_uid, entry->pw_gid, entry->pw_name);
  return 0;
}

int dev_find_user(const struct dev_folder *folder, struct dev_programs *programs, char *message, size_t size) {
  struct stat data;
  bool exists = fstatat(folder->fd, "data", &data, AT_SYMLINK_NOFOLLOW) == 0;
  if (!exists && geteuid() == 0)
    return use_unprivileged(programs, message, size);
  uid_t uid = exists ? data.st_uid : geteuid();
  const struct passwd *entry = getpwuid(uid);
  const char *name = entry == NULL ? "" : entry->pw_name;
  if (uid != geteuid() && geteuid() != 0)
    return dev_fail(message, size,
                    "the cluster in .pgq-dev belongs to the user %s (%ld); run pgq-lua as that user or as "
                    "root, or remove .pgq-dev",
                    name, (long)uid);
  if (uid == 0)
    return dev_fail(message, size,
                    "the cluster in .pgq-dev belongs to root, and Postgres refuses to run as root; change the owner of "
                    ".pgq-dev/data, or remove .pgq-dev");
  use_user(programs, uid, exists ? data.st_gid : getegid(), name);
  return 0;
}

/* --- The programs --------------------------------------------------------------------------------------------------
 */

static bool has_programs(const char *folder) {
  char path[PATH_MAX];
  static const char *const names[] = {"initdb", "postgres"};
  for (size_t i = 0; i < 2; i++) {
    int length = snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
    if (length >= (int)sizeof(path) || access(path, X_OK) == -1)
      return false;
  }
  return folder[0] == '/';
}

static bool use_bindir(struct dev_programs *programs, const char *folder) {
  if (!has_programs(folder))
    return false;
  snprintf(programs->bindir, sizeof(programs->bindir), "%s", folder);
  return true;
}

/* Sets bindir to the folder of the version that created the cluster. Another version would refuse to start. */
static bool use_version_of_cluster(const struct dev_folder *folder, struct dev_programs *programs) {
  static const char *const places[] = {"/usr/lib/postgresql/%s/bin", "/usr/pgsql-%s/bin",
                                       "/opt/homebrew/opt/postgresql@%s/bin", "/usr/local/opt/postgresql@%s/bin"};
  char version[16] = "", path[128];
  int data = dev_folder_data(folder);
  int fd = data == -1 ? -1 : openat(data, "PG_VERSION", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  ssize_t length = fd == -1 ? -1 : read(fd, version, sizeof(version) - 1);
  if (fd != -1)
    close(fd);
  if (data != -1)
    close(data);
  version[length > 0 ? length : 0] = '\0';
  version[strcspn(version, "\n")] = '\0';
  if (version[0] == '\0' || strspn(version, "0123456789.") != strlen(version))
    return false;
  for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
    snprintf(path, sizeof(path), places[i], version);
    if (use_bindir(programs, path))
      return true;
  }
  return false;
}

/* Reads from fd to its end, and keeps the first line. Returns whether it is not empty. */
static bool read_first_line(int fd, char *line, size_t size) {
  size_t length = 0;
  for (ssize_t got; length < size - 1; length += (size_t)got) {
    got = read(fd, line + length, size - 1 - length);
    if (got == -1 && errno == EINTR)
      got = 0;
    else if (got <= 0)
      break;
  }
  line[length] = '\0';
  line[strcspn(line, "\n")] = '\0';
  return line[0] != '\0';
}

static bool wait_for_success(pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) == -1)
    if (errno != EINTR)
      return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool use_pg_config(struct dev_programs *programs) {
  char line[PATH_MAX];
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) == -1)
    return false;
  pid_t pid = fork();
  if (pid == 0) {
    int null_fd = open("/dev/null", O_RDWR);
    dup2(null_fd, STDIN_FILENO);
    dup2(null_fd, STDERR_FILENO);
    dup2(pipe_fds[1], STDOUT_FILENO);
    execlp("pg_config", "pg_config", "--bindir", (char *)NULL);
    _exit(127);
  }
  close(pipe_fds[1]);
  bool found = pid > 0 && read_first_line(pipe_fds[0], line, sizeof(line));
  close(pipe_fds[0]);
  return pid > 0 && wait_for_success(pid) && found && use_bindir(programs, line);
}

static bool use_path(struct dev_programs *programs) {
  const char *path = getenv("PATH");
  char folder[PATH_MAX];
  while (path != NULL && *path != '\0') {
    size_t length = strcspn(path, ":");
    snprintf(folder, sizeof(folder), "%.*s", (int)length, path);
    if (use_bindir(programs, folder))
      return true;
    path += length + (path[length] == ':');
  }
  return false;
}

/* Orders paths by version, the newest first. */
static int newest_first(const void *a, const void *b) {
  return -strverscmp(*(char *const *)a, *(char *const *)b);
}

static bool use_usual_places(struct dev_programs *programs) {
  static const char *const patterns[] = {"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
                                         "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
                                         "/usr/local/pgsql*/bin"};
  bool found = false;
  for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]) && !found; i++) {
    glob_t matches;
    if (glob(patterns[i], GLOB_NOSORT, NULL, &matches) != 0)
      continue;
    qsort(matches.gl_pathv, matches.gl_pathc, sizeof(char *), newest_first);
    for (size_t j = 0; j < matches.gl_pathc && !found; j++)
      found = use_bindir(programs, matches.gl_pathv[j]);
    globfree(&matches);
  }
  return found;
}

int dev_find_bindir(const struct dev_folder *folder, struct dev_programs *programs, char *message, size_t size) {
  if (use_version_of_cluster(folder, programs) || use_pg_config(programs) || use_path(programs) ||
      use_usual_places(programs))
    return 0;
  return dev_fail(
      message, size,
      "no Postgres server found: looked for initdb and postgres where `pg_config --bindir` says, in PATH, in "
      "/usr/lib/postgresql/*/bin, /usr/pgsql-*/bin, /opt/homebrew/opt/postgresql*/bin and under /usr/local\n"
      "install it with: apt-get install postgresql (Debian, Ubuntu), dnf install postgresql-server (Fedora), "
      "brew install postgresql (macOS)");
}

/* --- Running them --------------------------------------------------------------------------------------------------
 */

static void die(const char *what) {
  dprintf(STDERR_FILENO, "pgq-lua: %s: %s\n", what, strerror(errno));
  _exit(126);
}

/*
 * In a child process: makes the log its output and the cluster's folder DATA_FD, closes all other descriptors, begins a
 * new session and resets the signals. The working directory becomes "/", which every user may enter: up to version 15
 * the programs of Postgres return to it by its path when they start.
 */
static void detach(int data_fd, int log_fd) {
  /* Moves the descriptor away from the numbers that dup2() uses below. */
  data_fd = fcntl(data_fd, F_DUPFD, 10);
  log_fd = fcntl(log_fd, F_DUPFD, 10);
  int null_fd = open("/dev/null", O_RDONLY);
  if (data_fd == -1 || log_fd == -1 || null_fd == -1)
    _exit(126);
  dup2(null_fd, STDIN_FILENO);
  dup2(log_fd, STDOUT_FILENO);
  dup2(log_fd, STDERR_FILENO);
  dup2(data_fd, DATA_FD);
  long most = sysconf(_SC_OPEN_MAX);
  for (int fd = DATA_FD + 1; fd < (most > 0 && most < MOST_FDS ? most : MOST_FDS); fd++)
    close(fd);

  setsid();
  for (int number = 1; number < NSIG; number++)
    signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  umask(077);
  if (chdir("/") == -1)
    die("cannot enter /");
}

static void become(const struct dev_programs *programs) {
  if (geteuid() != 0)
    return;
  if (programs->user[0] != '\0' ? initgroups(programs->user, programs->gid) : setgroups(0, NULL))
    die("cannot set the groups");
  if (setgid(programs->gid) == -1 || setuid(programs->uid) == -1)
    die("cannot become an unprivileged user");
}

/*
 * Returns a path of the cluster's folder for the user that runs the server. The path leads through the descriptor that
 * each process of the server has, since the user may lack permission for the folders above.
 */
static const char *data_path(char *path, size_t size) {
  snprintf(path, size, "/proc/self/fd/%d", DATA_FD);
  if (access(path, F_OK) == -1 && (fchdir(DATA_FD) == -1 || getcwd(path, size) == NULL))
    die("cannot find the path of the cluster's folder");
  return path;
}

/* In a child process: executes a program. `arguments` ends with NULL; this function sets elements 0 and 2. */
static void run_program(const struct dev_programs *programs, const char *name, char **arguments) {
  char path[PATH_MAX + 16], data[PATH_MAX];
  snprintf(path, sizeof(path), "%s/%s", programs->bindir, name);
  become(programs);
  arguments[0] = path;
  arguments[2] = (char *)data_path(data, sizeof(data));
  /* Messages must be in English: pgq-lua searches for some of them, and shows others. */
  setenv("LC_ALL", "C", 1);
  execv(path, arguments);
  die(path);
}

/* Creates the empty folder of a new cluster. Returns its descriptor or -1. */
static int make_data(const struct dev_folder *folder, const char *name, const struct dev_programs *programs) {
  dev_folder_remove(folder, name);
  if (mkdirat(folder->fd, name, 0700) == -1)
    return -1;
  int fd = openat(folder->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd != -1 && geteuid() == 0 && fchown(fd, programs->uid, programs->gid) == -1) {
    close(fd);
    return -1;
  }
  return fd;
}

int dev_initdb(const struct dev_folder *folder, const struct dev_programs *programs) {
  char *arguments[] = {NULL, "-D", NULL, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", NULL};
  int log_fd = dev_folder_log(folder);
  int data_fd = make_data(folder, "data.new", programs);
  pid_t pid = log_fd == -1 || data_fd == -1 ? -1 : fork();
  if (pid == 0) {
    detach(data_fd, log_fd);
    run_program(programs, "initdb", arguments);
  }
  close(log_fd);
  close(data_fd);
  if (pid == -1 || !wait_for_success(pid))
    return -1;
  return renameat(folder->fd, "data.new", folder->fd, "data");
}

/* The watcher of a new server. It exits with 1 if the server ends, and with 0 when it is released. */
static void watch(pid_t server, int release_fd) {
  struct pollfd released = {.fd = release_fd, .events = POLLIN};
  for (;;) {
    if (poll(&released, 1, 20) > 0)
      _exit(0);
    if (waitpid(server, NULL, WNOHANG) == server)
      _exit(1);
  }
}

static void run_server(const struct dev_programs *programs, const char *socket, pid_t stale) {
  char folder[PATH_MAX], pid[32];
  snprintf(folder, sizeof(folder), "unix_socket_directories=%s", socket);
  char *arguments[] = {NULL,   "-D", NULL,        "-c", "listen_addresses=",     "-c",
                       folder, "-c", "port=5432", "-c", "logging_collector=off", NULL};
  /* After a restart of the machine, another program may have the process id in postmaster.pid. This variable, which
   * pg_ctl sets to its parent, makes Postgres ignore that id. */
  snprintf(pid, sizeof(pid), "%ld", (long)stale);
  if (stale != 0)
    setenv("PG_GRANDPARENT_PID", pid, 1);
  else
    unsetenv("PG_GRANDPARENT_PID");
  run_program(programs, "postgres", arguments);
}

int dev_start(struct dev_start *start, const struct dev_folder *folder, const struct dev_programs *programs,
              const char *socket, pid_t stale) {
  int log_fd = dev_folder_log(folder);
  int data_fd = dev_folder_data(folder);
  int pipe_fds[2] = {-1, -1};
  start->watcher = log_fd == -1 || data_fd == -1 || pipe2(pipe_fds, O_CLOEXEC) == -1 ? -1 : fork();
  if (start->watcher == 0) {
    close(pipe_fds[1]);
    /* If Ctrl-C ends pgq-lua now, the server must continue its start. */
    setsid();
    pid_t server = fork();
    if (server == 0) {
      detach(data_fd, log_fd);
      run_server(programs, socket, stale);
    }
    watch(server, pipe_fds[0]);
  }
  int error = errno;
  close(log_fd);
  close(data_fd);
  close(pipe_fds[0]);
  start->release_fd = pipe_fds[1];
  errno = error;
  return start->watcher == -1 ? -1 : 0;
}

bool dev_start_failed(struct dev_start *start) {
  if (waitpid(start->watcher, NULL, WNOHANG) != start->watcher)
    return false;
  close(start->release_fd);
  return true;
}

void dev_start_release(struct dev_start *start) {
  close(start->release_fd);
  (void)wait_for_success(start->watcher);
}
