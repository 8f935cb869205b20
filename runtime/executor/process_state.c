#include "process_state.h"

#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "memory.h"
#include "process_calls.h"
#include "protocol.h"

/* Copies of descriptors are at numbers that nothing else uses. */
enum { COPY_LEAST = 200, COPY_LEAST_IF_FEW = 10 };

enum { DESCRIPTORS = EXECUTOR_SOCKET + 1, SIGNALS = 65, TIMERS = 3 };

/* An open file: 0, 1, 2 or the executor's socket. */
struct descriptor {
  int copy; /* -1: it was closed */
  dev_t device;
  ino_t inode;
  int flags, status;
};

struct process_state {
  int directory; /* -1: it cannot be opened */
  struct stat directory_stat, root_stat;
  mode_t mask;
  char *locale;
  locale_t thread_locale;
  int rounding, exceptions;
  sigset_t blocked;
  struct sigaction actions[SIGNALS];
  struct itimerval timers[TIMERS];
  struct rlimit limits[RLIM_NLIMITS];
  int priority;
  cpu_set_t processors;
  uid_t users[3];
  gid_t groups[3];
  char **environment; /* ends with NULL */
  struct descriptor descriptors[DESCRIPTORS];
  bool line_buffered;
};

static void (*luv_signal_handler)(int);

void process_state_prepare(void (*luv_handler)(int)) {
  luv_signal_handler = luv_handler;
}

static bool is_same_file(const struct stat *a, const struct stat *b) {
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* ── the directories ── */

static bool directory_differs(const struct process_state *state) {
  struct stat now = {0};
  (void)!stat(".", &now); /* if it cannot be read, zeroes are compared */
  return !is_same_file(&now, &state->directory_stat);
}

static bool put_directory(const struct process_state *state) {
  return state->directory >= 0 && fchdir(state->directory) == 0;
}

static bool root_differs(const struct process_state *state) {
  struct stat now = {0};
  (void)!stat("/", &now);
  return !is_same_file(&now, &state->root_stat);
}

/* ── the file mode mask ── */

/* The mask can only be read by setting it. Other threads create no files that everybody may write meanwhile. */
static mode_t read_mask(void) {
  mode_t mask = umask(077);
  umask(mask);
  return mask;
}

static bool mask_differs(const struct process_state *state) {
  return read_mask() != state->mask;
}

static bool put_mask(const struct process_state *state) {
  umask(state->mask);
  return true;
}

/* ── how numbers and texts are read and written ── */

static bool locale_differs(const struct process_state *state) {
  return strcmp(setlocale(LC_ALL, NULL), state->locale) != 0 || uselocale(0) != state->thread_locale;
}

static bool put_locale(const struct process_state *state) {
  uselocale(state->thread_locale);
  return setlocale(LC_ALL, state->locale) != NULL;
}

static bool arithmetic_differs(const struct process_state *state) {
  return fegetround() != state->rounding || fegetexcept() != state->exceptions;
}

static bool put_arithmetic(const struct process_state *state) {
  fedisableexcept(FE_ALL_EXCEPT);
  feclearexcept(FE_ALL_EXCEPT);
  feenableexcept(state->exceptions);
  return fesetround(state->rounding) == 0;
}

/* ── signals and timers ── */

static bool blocked_differ(const struct process_state *state) {
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, NULL, &now);
  for (int sig = 1; sig < SIGNALS; sig++)
    if (sigismember(&now, sig) != sigismember(&state->blocked, sig))
      return true;
  return false;
}

static bool put_blocked(const struct process_state *state) {
  return pthread_sigmask(SIG_SETMASK, &state->blocked, NULL) == 0;
}

static bool action_differs(const struct process_state *state, int sig) {
  struct sigaction now;
  return sigaction(sig, NULL, &now) == 0 && now.sa_handler != state->actions[sig].sa_handler &&
         now.sa_handler != luv_signal_handler;
}

static bool actions_differ(const struct process_state *state) {
  bool differ = false;
  for (int sig = 1; sig < SIGNALS && !differ; sig++)
    differ = action_differs(state, sig);
  return differ;
}

static bool put_actions(const struct process_state *state) {
  bool right = true;
  for (int sig = 1; sig < SIGNALS; sig++)
    if (action_differs(state, sig))
      right = sigaction(sig, &state->actions[sig], NULL) == 0 && right;
  return right;
}

static bool is_same_time(struct timeval a, struct timeval b) {
  return a.tv_sec == b.tv_sec && a.tv_usec == b.tv_usec;
}

/* A timer that runs differs. */
static bool timers_differ(const struct process_state *state) {
  for (int i = 0; i < TIMERS; i++) {
    struct itimerval now;
    if (getitimer((__itimer_which_t)i, &now) == 0 && (!is_same_time(now.it_value, state->timers[i].it_value) ||
                                                      !is_same_time(now.it_interval, state->timers[i].it_interval)))
      return true;
  }
  return false;
}

static bool put_timers(const struct process_state *state) {
  bool right = true;
  for (int i = 0; i < TIMERS; i++)
    right = setitimer((__itimer_which_t)i, &state->timers[i], NULL) == 0 && right;
  return right;
}

/* ── limits and rights ── */

static bool limit_differs(const struct process_state *state, int i) {
  struct rlimit now = {0};
  return getrlimit((__rlimit_resource_t)i, &now) == 0 &&
         (now.rlim_cur != state->limits[i].rlim_cur || now.rlim_max != state->limits[i].rlim_max);
}

static bool limits_differ(const struct process_state *state) {
  bool differ = false;
  for (int i = 0; i < RLIM_NLIMITS && !differ; i++)
    differ = limit_differs(state, i);
  return differ;
}

static bool put_limits(const struct process_state *state) {
  bool right = true;
  for (int i = 0; i < RLIM_NLIMITS; i++)
    if (limit_differs(state, i))
      right = setrlimit((__rlimit_resource_t)i, &state->limits[i]) == 0 && right;
  return right;
}

static int read_priority(void) {
  return getpriority(PRIO_PROCESS, 0);
}

static bool priority_differs(const struct process_state *state) {
  return read_priority() != state->priority;
}

static bool put_priority(const struct process_state *state) {
  return setpriority(PRIO_PROCESS, 0, state->priority) == 0;
}

static bool processors_differ(const struct process_state *state) {
  cpu_set_t now;
  return sched_getaffinity(0, sizeof now, &now) == 0 && !CPU_EQUAL(&now, &state->processors);
}

static bool put_processors(const struct process_state *state) {
  return sched_setaffinity(0, sizeof state->processors, &state->processors) == 0;
}

static bool users_differ(const struct process_state *state) {
  uid_t users[3] = {0};
  gid_t groups[3] = {0};
  getresuid(&users[0], &users[1], &users[2]);
  getresgid(&groups[0], &groups[1], &groups[2]);
  return memcmp(users, state->users, sizeof users) != 0 || memcmp(groups, state->groups, sizeof groups) != 0;
}

static bool put_users(const struct process_state *state) {
  const uid_t *users = state->users;
  const gid_t *groups = state->groups;
  if (setresuid(-1u, users[1], -1u) != 0 || setresgid(groups[0], groups[1], groups[2]) != 0)
    return false;
  return setresuid(users[0], users[1], users[2]) == 0;
}

/* ── the environment ── */

static size_t count_environment(void) {
  size_t count = 0;
  while (environ && environ[count])
    count++;
  return count;
}

static bool environment_differs(const struct process_state *state) {
  size_t i = 0;
  for (; environ && environ[i] && state->environment[i]; i++)
    if (strcmp(environ[i], state->environment[i]) != 0)
      return true;
  return state->environment[i] || (environ && environ[i]);
}

/* The C library keeps what setenv() is given, and uses it again for the same value. It takes no texts without a name:
 * these are kept by putenv(), and never freed. */
static bool put_variable(const char *text) {
  const char *equals = strchr(text, '=');
  if (!equals || equals == text)
    return putenv(memory_text(text)) == 0;
  char *name = memory_text(text);
  name[equals - text] = '\0';
  bool right = setenv(name, equals + 1, 1) == 0;
  free(name);
  return right;
}

static bool put_environment(const struct process_state *state) {
  bool right = clearenv() == 0;
  for (size_t i = 0; state->environment[i]; i++)
    right = put_variable(state->environment[i]) && right;
  return right;
}

static char **take_environment(void) {
  size_t count = count_environment();
  char **copy = memory_new((count + 1) * sizeof *copy);
  for (size_t i = 0; i < count; i++)
    copy[i] = memory_text(environ[i]);
  return copy;
}

/* ── the standard streams, and the supervisor's socket ── */

static bool descriptor_differs(const struct descriptor *descriptor, int fd) {
  struct stat now;
  if (fstat(fd, &now) != 0)
    return descriptor->copy >= 0;
  return descriptor->copy < 0 || now.st_dev != descriptor->device || now.st_ino != descriptor->inode ||
         fcntl(fd, F_GETFD) != descriptor->flags || fcntl(fd, F_GETFL) != descriptor->status;
}

static bool put_descriptor(const struct descriptor *descriptor, int fd) {
  if (descriptor->copy < 0)
    return close(fd) == 0 || errno == EBADF;
  return dup2(descriptor->copy, fd) == fd && fcntl(fd, F_SETFD, descriptor->flags) == 0 &&
         fcntl(fd, F_SETFL, descriptor->status) == 0;
}

static struct descriptor take_descriptor(int fd) {
  struct descriptor descriptor = {.copy = fcntl(fd, F_DUPFD_CLOEXEC, COPY_LEAST)};
  struct stat now = {0};
  if (descriptor.copy < 0) /* few descriptors are allowed */
    descriptor.copy = fcntl(fd, F_DUPFD_CLOEXEC, COPY_LEAST_IF_FEW);
  if (descriptor.copy >= 0 && fstat(fd, &now) == 0) {
    descriptor.device = now.st_dev;
    descriptor.inode = now.st_ino;
    descriptor.flags = fcntl(fd, F_GETFD);
    descriptor.status = fcntl(fd, F_GETFL);
  }
  return descriptor;
}

static bool streams_differ(const struct process_state *state) {
  bool differ = process_calls_streams_lost() || (__flbf(stdout) != 0) != state->line_buffered;
  for (int fd = 0; fd < DESCRIPTORS && !differ; fd++)
    differ = descriptor_differs(&state->descriptors[fd], fd);
  return differ;
}

static bool put_streams(const struct process_state *state) {
  bool right = !process_calls_streams_lost();
  if (right)
    fflush(stdout); /* what the handler has printed goes where the handler has sent it */
  for (int fd = 0; fd < DESCRIPTORS; fd++)
    if (descriptor_differs(&state->descriptors[fd], fd))
      right = put_descriptor(&state->descriptors[fd], fd) && right;
  if (right && (__flbf(stdout) != 0) != state->line_buffered)
    right = setvbuf(stdout, NULL, state->line_buffered ? _IOLBF : _IOFBF, 0) == 0;
  if (right) {
    clearerr(stdout);
    clearerr(stdin);
  }
  return right;
}

/* ── all settings ── */

/* `put` is NULL if a setting cannot be brought back. Others than this process can change the settings that are
 * `shared`: these are compared only after a call that this process has made. So is the mask, whose reading disturbs
 * threads. */
static const struct setting {
  const char *name;
  bool (*differs)(const struct process_state *state);
  bool (*put)(const struct process_state *state);
  bool shared;
} settings[] = {
    {"users and groups", users_differ, put_users, true},
    {"resource limits", limits_differ, put_limits, true},
    {"root directory", root_differs, NULL, false},
    {"standard streams", streams_differ, put_streams, false},
    {"working directory", directory_differs, put_directory, false},
    {"file mode mask", mask_differs, put_mask, true},
    {"locale", locale_differs, put_locale, false},
    {"floating-point arithmetic", arithmetic_differs, put_arithmetic, false},
    {"timers", timers_differ, put_timers, false},
    {"signal handlers", actions_differ, put_actions, false},
    {"blocked signals", blocked_differ, put_blocked, false},
    {"environment", environment_differs, put_environment, false},
    {"priority", priority_differs, put_priority, true},
    {"processors", processors_differ, put_processors, true},
};

struct process_state *process_state_take(void) {
  struct process_state *state = memory_new(sizeof *state);
  state->directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  (void)!stat(".", &state->directory_stat);
  (void)!stat("/", &state->root_stat);
  state->mask = read_mask();
  state->locale = memory_text(setlocale(LC_ALL, NULL));
  state->thread_locale = uselocale(0);
  state->rounding = fegetround();
  state->exceptions = fegetexcept();
  pthread_sigmask(SIG_SETMASK, NULL, &state->blocked);
  for (int sig = 1; sig < SIGNALS; sig++)
    sigaction(sig, NULL, &state->actions[sig]);
  for (int i = 0; i < TIMERS; i++)
    getitimer((__itimer_which_t)i, &state->timers[i]);
  for (int i = 0; i < RLIM_NLIMITS; i++)
    getrlimit((__rlimit_resource_t)i, &state->limits[i]);
  state->priority = read_priority();
  sched_getaffinity(0, sizeof state->processors, &state->processors);
  getresuid(&state->users[0], &state->users[1], &state->users[2]);
  getresgid(&state->groups[0], &state->groups[1], &state->groups[2]);
  state->environment = take_environment();
  for (int fd = 0; fd < DESCRIPTORS; fd++)
    state->descriptors[fd] = take_descriptor(fd);
  state->line_buffered = __flbf(stdout) != 0;
  return state;
}

void process_state_free(struct process_state *state) {
  if (!state)
    return;
  for (int fd = 0; fd < DESCRIPTORS; fd++)
    if (state->descriptors[fd].copy >= 0)
      close(state->descriptors[fd].copy);
  for (size_t i = 0; state->environment[i]; i++)
    free(state->environment[i]);
  free(state->environment);
  free(state->locale);
  if (state->directory >= 0)
    close(state->directory);
  free(state);
}

void process_state_add_name(struct buffer *names, const char *name) {
  if (names->length > 0)
    buffer_add(names, ", ", 2);
  buffer_add(names, name, strlen(name));
}

static bool differs(const struct setting *setting, const struct process_state *state) {
  return (!setting->shared || process_calls_seen()) && setting->differs(state);
}

bool process_state_differs(const struct process_state *state) {
  bool found = false;
  for (size_t i = 0; i < sizeof settings / sizeof settings[0] && !found; i++)
    found = differs(&settings[i], state);
  return found;
}

void process_state_restore(const struct process_state *state, struct buffer *changed, struct buffer *lost) {
  for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
    const struct setting *setting = &settings[i];
    if (!differs(setting, state))
      continue;
    process_state_add_name(changed, setting->name);
    if (!setting->put || !setting->put(state))
      process_state_add_name(lost, setting->name);
  }
  process_calls_forget();
}
