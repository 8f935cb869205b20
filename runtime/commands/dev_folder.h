#ifndef PGQ_DEV_FOLDER_H
#define PGQ_DEV_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Enough bytes for the path of the socket's folder. */
#define DEV_SOCKET_SIZE 64

/*
 * The folder ./.pgq-dev. Its files are opened relative to its descriptor, so that neither the length of its path nor
 * the permissions of the folders above it matter.
 */
struct dev_folder {
  int fd;
  int lock_fd;
};

/* dev_fail(message, size, format, …): writes a message and returns -1. */
int dev_fail(char *message, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * dev_folder_open(folder, create, message, size): opens the folder in the current directory and locks it. Blocks while
 * another process has the lock. If there is no folder, creates it (`create`) or returns 0. Returns 1 on success, after
 * which dev_folder_close() must be called, which also unlocks it; -1 and a message on failure.
 */
int dev_folder_open(struct dev_folder *folder, bool create, char *message, size_t size);
void dev_folder_close(struct dev_folder *folder);

/* dev_folder_remove(folder, name): removes a file or a tree of files in the folder. Errors are ignored. */
void dev_folder_remove(const struct dev_folder *folder, const char *name);

/* dev_folder_log(folder): opens the log for appending, and returns the descriptor, or -1 and errno. A log of more than
 * a mebibyte is emptied. */
int dev_folder_log(const struct dev_folder *folder);

/* dev_folder_tail(folder, from, text, size): copies the last lines of the log after the byte `from`; "" if there are
 * none.
 */
void dev_folder_tail(const struct dev_folder *folder, off_t from, char *text, size_t size);

/*
 * dev_socket_new(folder, owner, group, path, size): creates a folder for the socket, which only `owner` may enter, and
 * records its path. Returns 0 and the path, or -1 and errno.
 */
int dev_socket_new(const struct dev_folder *folder, uid_t owner, gid_t group, char *path, size_t size);

/*
 * dev_socket_path(folder, owner, path, size): reads the recorded path. Returns whether that folder exists and only
 * `owner` may enter it: after /tmp was cleaned, another user may have created a folder of this name.
 */
bool dev_socket_path(const struct dev_folder *folder, uid_t owner, char *path, size_t size);

/* dev_socket_remove(folder, owner): removes the recorded folder and the socket in it, if they exist. */
void dev_socket_remove(const struct dev_folder *folder, uid_t owner);

/* dev_postmaster(folder, stale): the process id of the server that runs on data/; 0 if none does. If postmaster.pid was
 * left over and its process id now belongs to another program, *stale is that id; else it is 0. */
pid_t dev_postmaster(const struct dev_folder *folder, pid_t *stale);

/* dev_runs(folder, pid): whether that process exists and is a server on data/. */
bool dev_runs(const struct dev_folder *folder, pid_t pid);

#endif
