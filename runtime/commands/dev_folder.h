#ifndef PGQ_DEV_FOLDER_H
#define PGQ_DEV_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Room for the path of a socket's folder. */
#define DEV_SOCKET_SIZE 64

/*
 * ./.pgq-dev as a set of files. All names are looked up from its descriptor, so that neither the length of its path nor
 * the permissions of the folders above it matter.
 */
struct dev_folder {
  int fd;
  int lock_fd;
};

/* dev_fail(message, size, format, …): writes a message and returns -1. */
int dev_fail(char *message, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * dev_folder_open(folder, create, message, size): opens the folder of the current directory and takes its lock, waiting
 * for who has it. Without the folder it is made when `create` is set. Returns 1; 0 when there is none to open; -1 with
 * a message. Only after 1 must dev_folder_close() be called; it gives the lock back.
 */
int dev_folder_open(struct dev_folder *folder, bool create, char *message, size_t size);
void dev_folder_close(struct dev_folder *folder);

/* dev_folder_remove(folder, name): removes a file or a whole tree in the folder. Best effort. */
void dev_folder_remove(const struct dev_folder *folder, const char *name);

/* dev_folder_log(folder): opens the log for appending; -1 with errno. A log of over a megabyte starts anew. */
int dev_folder_log(const struct dev_folder *folder);

/* dev_folder_tail(folder, from, text, size): the last lines of the log, of those behind the byte `from`; "" if none. */
void dev_folder_tail(const struct dev_folder *folder, off_t from, char *text, size_t size);

/*
 * dev_socket_new(folder, owner, group, path, size): makes the folder of a socket, closed to everyone but `owner`, and
 * records it. Returns 0 and its path, or -1 with errno.
 */
int dev_socket_new(const struct dev_folder *folder, uid_t owner, gid_t group, char *path, size_t size);

/*
 * dev_socket_path(folder, owner, path, size): the recorded folder, if it is still there and is still `owner`'s alone:
 * in a /tmp that was cleaned, the name may be somebody else's by now. Returns whether it is.
 */
bool dev_socket_path(const struct dev_folder *folder, uid_t owner, char *path, size_t size);

/* dev_socket_remove(folder, owner): removes the recorded folder with the socket in it. Nothing to remove is fine. */
void dev_socket_remove(const struct dev_folder *folder, uid_t owner);

/* dev_postmaster(folder): the process id of the server that runs on data/, 0 when none does. A process id in a
 * left-over postmaster.pid which now belongs to some other program goes to *stale, which is 0 otherwise. */
pid_t dev_postmaster(const struct dev_folder *folder, pid_t *stale);

/* dev_runs(folder, pid): whether that process is there and is a server on data/. */
bool dev_runs(const struct dev_folder *folder, pid_t pid);

#endif
