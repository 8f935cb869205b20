#ifndef PGQ_DEV_FOLDER_H
#define PGQ_DEV_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Enough bytes for the path of the socket's folder, and for what identifies a folder. */
#define DEV_SOCKET_SIZE 64
#define DEV_IDENTITY_SIZE 64

/*
 * The folder ./.pgq-dev. Its files are opened relative to its descriptor, so that neither the length of its path nor
 * the permissions of the folders above it matter.
 */
struct dev_folder {
  int fd;
  int lock_fd;
  char identity[DEV_IDENTITY_SIZE]; /* the number and the time of birth of this folder */
};

/* dev_fail(message, size, format, …): writes a message and returns -1. */
int dev_fail(char *message, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * dev_folder_open(folder, create, message, size): opens the folder in the current directory and locks it. Blocks while
 * another process has the lock. If there is no folder, creates it (`create`) or returns 0. Returns 1 on success, after
 * which dev_folder_close() must be called, which also unlocks it; -1 and a message on failure. A folder that was not
 * created by this function, at this place, is a failure: it may have come with a checkout.
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
 * dev_socket_path(folder, owner, path, size): reads the recorded path. Returns whether that folder exists, was created
 * for this .pgq-dev, and only `owner` may enter it: after /tmp was cleaned, another user may have created a folder of
 * this name.
 */
bool dev_socket_path(const struct dev_folder *folder, uid_t owner, char *path, size_t size);

/* dev_socket_remove(folder, owner): removes the record, and the folder and the socket in it if dev_socket_path() would
 * return true. */
void dev_socket_remove(const struct dev_folder *folder, uid_t owner);

/* dev_folder_data(folder): opens the cluster's folder, which must not be a link. Returns its descriptor, or -1 and
 * errno.
 */
int dev_folder_data(const struct dev_folder *folder);

/* dev_postmaster(folder, stale): the process id of the server that runs on data/; 0 if none does. If postmaster.pid was
 * left over and its process id now belongs to another program, *stale is that id; else it is 0. */
pid_t dev_postmaster(const struct dev_folder *folder, pid_t *stale);

/* dev_runs(folder, pid): whether that process exists and is a server on data/. */
bool dev_runs(const struct dev_folder *folder, pid_t pid);

#endif
