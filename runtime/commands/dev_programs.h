#ifndef PGQ_DEV_PROGRAMS_H
#define PGQ_DEV_PROGRAMS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "dev_folder.h"

/* The programs of the server, and the user that runs them: the caller, or an unprivileged user if the caller is root.
 */
struct dev_programs {
  char bindir[PATH_MAX]; /* folder with initdb and postgres */
  char user[64];         /* name for messages and supplementary groups */
  uid_t uid;
  gid_t gid;
};

/*
 * dev_find_user(folder, programs, message, size): sets user, uid and gid. For an existing cluster this is the user who
 * owns it. Returns 0, or -1 and a message.
 */
int dev_find_user(const struct dev_folder *folder, struct dev_programs *programs, char *message, size_t size);

/*
 * dev_find_bindir(folder, programs, message, size): sets bindir to the first folder that exists: that of the version
 * that created the cluster, that of `pg_config --bindir`, one in PATH, or that of the newest version in the usual
 * places. Returns 0, or -1 and a message that names the package to install.
 */
int dev_find_bindir(const struct dev_folder *folder, struct dev_programs *programs, char *message, size_t size);

/*
 * dev_initdb(folder, programs): creates the cluster under another name, and renames it to data/ when it is complete.
 * The output goes to the log. Returns 0 or -1.
 */
int dev_initdb(const struct dev_folder *folder, const struct dev_programs *programs);

/* A server that is starting: a process beside it, the watcher, reports its death until dev_start_release(). */
struct dev_start {
  pid_t watcher;
  int release_fd;
};

/*
 * dev_start(start, folder, programs, socket, stale): starts the server in the background, with its socket in the folder
 * `socket`. `stale` comes from dev_postmaster(). Returns 0, or -1 and errno. The caller then calls dev_start_failed()
 * until the server accepts connections, and then dev_start_release().
 */
int dev_start(struct dev_start *start, const struct dev_folder *folder, const struct dev_programs *programs,
              const char *socket, pid_t stale);

/* dev_start_failed(start): whether the server has ended. If true, `start` is released and must not be used again. */
bool dev_start_failed(struct dev_start *start);
void dev_start_release(struct dev_start *start);

#endif
