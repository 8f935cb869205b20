#ifndef PGQ_DEV_PROGRAMS_H
#define PGQ_DEV_PROGRAMS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "dev_folder.h"

/* The server's programs, and the user they run as: whoever called, or an unprivileged one when that is root. */
struct dev_programs {
  char bindir[PATH_MAX]; /* folder with initdb and postgres */
  char user[64];         /* name for messages and supplementary groups */
  uid_t uid;
  gid_t gid;
};

/*
 * dev_find_user(folder, programs, message, size): sets user, uid and gid. An existing cluster belongs to the user that
 * created it. Returns 0, or -1 with a message.
 */
int dev_find_user(const struct dev_folder *folder, struct dev_programs *programs, char *message, size_t size);

/*
 * dev_find_bindir(folder, programs, message, size): sets bindir: of the version that created the cluster when there is
 * one, else what `pg_config --bindir` says, what PATH has, or the newest in the usual places. Returns 0, or -1 with a
 * message that names the package to install.
 */
int dev_find_bindir(const struct dev_folder *folder, struct dev_programs *programs, char *message, size_t size);

/*
 * dev_initdb(folder, programs): creates the cluster data/; a half-made one never gets that name. Its output goes to the
 * log. Returns 0 or -1.
 */
int dev_initdb(const struct dev_folder *folder, const struct dev_programs *programs);

/* A server that is being started: a process waits beside it, to tell when it dies, until it may go on by itself. */
struct dev_start {
  pid_t watcher;
  int release_fd;
};

/*
 * dev_start(start, folder, programs, socket, stale): starts the server in the background, with its socket in the
 * folder `socket`. `stale` is what dev_postmaster() said of postmaster.pid. Returns 0, or -1 with errno. Then call
 * dev_start_failed() until the server answers, and dev_start_release().
 */
int dev_start(struct dev_start *start, const struct dev_folder *folder, const struct dev_programs *programs,
              const char *socket, pid_t stale);

/* dev_start_failed(start): whether the server has ended. It asks only once: after true, do nothing more with `start`.
 */
bool dev_start_failed(struct dev_start *start);
void dev_start_release(struct dev_start *start);

#endif
