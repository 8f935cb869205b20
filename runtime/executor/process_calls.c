#include "process_calls.h"

#include <dlfcn.h>
#include <fenv.h>
#include <grp.h>
#include <locale.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include <uv.h>

#include "protocol.h"

static atomic_bool seen, streams_lost;

bool process_calls_seen(void) {
  return atomic_load_explicit(&seen, memory_order_relaxed);
}

void process_calls_forget(void) {
  atomic_store_explicit(&seen, false, memory_order_relaxed);
}

bool process_calls_streams_lost(void) {
  return atomic_load_explicit(&streams_lost, memory_order_relaxed);
}

static void note(bool changes) {
  if (changes)
    atomic_store_explicit(&seen, true, memory_order_relaxed);
}

static bool is_standard(const FILE *file) {
  return file == stdin || file == stdout || file == stderr;
}

/* Defines a function that notes its call if the expression `changes` is true, and then does what the next definition of
 * that name does, the C library's. */
#define NOTED(changes, type, name, parameters, arguments)                                                              \
  __attribute__((visibility("default"))) type name parameters {                                                        \
    static type(*next) parameters;                                                                                     \
    if (!next)                                                                                                         \
      *(void **)&next = dlsym(RTLD_NEXT, #name);                                                                       \
    note(changes);                                                                                                     \
    return next arguments;                                                                                             \
  }

/* Descriptors that the executor needs: 0, 1, 2 and its socket. */
#define IS_OURS(fd) ((fd) <= EXECUTOR_SOCKET)

/* clang-format off */
NOTED(true, int, chdir, (const char *path), (path))
NOTED(true, int, fchdir, (int fd), (fd))
NOTED(true, int, chroot, (const char *path), (path))
NOTED(true, mode_t, umask, (mode_t mask), (mask))
NOTED(locale != 0, char *, setlocale, (int category, const char *locale), (category, locale))
NOTED(locale != 0, locale_t, uselocale, (locale_t locale), (locale))
NOTED(true, int, fesetround, (int round), (round))
NOTED(true, int, fesetenv, (const fenv_t *env), (env))
NOTED(true, int, feupdateenv, (const fenv_t *env), (env))
NOTED(true, int, feenableexcept, (int which), (which))
NOTED(true, int, fedisableexcept, (int which), (which))

NOTED(act != 0, int, sigaction, (int sig, const struct sigaction *act, struct sigaction *old), (sig, act, old))
NOTED(true, sighandler_t, signal, (int sig, sighandler_t handler), (sig, handler))
NOTED(set != 0, int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
NOTED(set != 0, int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
NOTED(true, unsigned, alarm, (unsigned seconds), (seconds))
NOTED(true, useconds_t, ualarm, (useconds_t value, useconds_t interval), (value, interval))
NOTED(true, int, setitimer, (__itimer_which_t which, const struct itimerval *value, struct itimerval *old), (which, value, old))

NOTED(true, int, setrlimit, (__rlimit_resource_t resource, const struct rlimit *limit), (resource, limit))
NOTED(true, int, setrlimit64, (__rlimit_resource_t resource, const struct rlimit64 *limit), (resource, limit))
NOTED(limit != 0, int, prlimit, (pid_t pid, enum __rlimit_resource resource, const struct rlimit *limit, struct rlimit *old), (pid, resource, limit, old))
NOTED(limit != 0, int, prlimit64, (pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *limit, struct rlimit64 *old), (pid, resource, limit, old))
NOTED(true, int, nice, (int increment), (increment))
NOTED(true, int, setpriority, (__priority_which_t which, id_t who, int priority), (which, who, priority))
NOTED(true, int, sched_setaffinity, (pid_t pid, size_t size, const cpu_set_t *set), (pid, size, set))

NOTED(true, int, setuid, (uid_t uid), (uid))
NOTED(true, int, seteuid, (uid_t uid), (uid))
NOTED(true, int, setreuid, (uid_t real, uid_t effective), (real, effective))
NOTED(true, int, setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved))
NOTED(true, int, setgid, (gid_t gid), (gid))
NOTED(true, int, setegid, (gid_t gid), (gid))
NOTED(true, int, setregid, (gid_t real, gid_t effective), (real, effective))
NOTED(true, int, setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved))

NOTED(true, int, setenv, (const char *name, const char *value, int replace), (name, value, replace))
NOTED(true, int, unsetenv, (const char *name), (name))
NOTED(true, int, putenv, (char *text), (text))
NOTED(true, int, clearenv, (void), ())

NOTED(IS_OURS(fd), int, close, (int fd), (fd))
NOTED(IS_OURS(to), int, dup2, (int from, int to), (from, to))
NOTED(IS_OURS(to), int, dup3, (int from, int to, int flags), (from, to, flags))
NOTED(IS_OURS(first), int, close_range, (unsigned first, unsigned last, int flags), (first, last, flags))
NOTED(is_standard(file), FILE *, freopen, (const char *path, const char *mode, FILE *file), (path, mode, file))
NOTED(is_standard(file), int, setvbuf, (FILE *file, char *buffer, int mode, size_t size), (file, buffer, mode, size))
/* clang-format on */

__attribute__((visibility("default"))) void uv_disable_stdio_inheritance(void) {
  static void (*next)(void);
  if (!next)
    *(void **)&next = dlsym(RTLD_NEXT, "uv_disable_stdio_inheritance");
  note(true);
  next();
}

__attribute__((visibility("default"))) int fclose(FILE *file) {
  static int (*next)(FILE *);
  if (!next)
    *(void **)&next = dlsym(RTLD_NEXT, "fclose");
  if (is_standard(file)) {
    note(true);
    atomic_store_explicit(&streams_lost, true, memory_order_relaxed);
  }
  return next(file);
}
