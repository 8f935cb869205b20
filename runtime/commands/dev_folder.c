#include "dev_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER ".pgq-dev"
#define LOG_LIMIT (1 << 20)
#define TAIL_LINES 8

int dev_fail(char *message, size_t size, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, size, format, arguments);
  va_end(arguments);
  return -1;
}

/* Reads the first line of a file, without the newline. Returns false if the file does not exist or the line is
 * empty. */
static bool read_line(const struct dev_folder *folder, const char *name, char *line, size_t size) {
  int fd = openat(folder->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd == -1)
    return false;
  ssize_t length = read(fd, line, size - 1);
  close(fd);
  if (length <= 0)
    return false;
  line[length] = '\0';
  line[strcspn(line, "\n")] = '\0';
  return line[0] != '\0';
}

static int write_file(const struct dev_folder *folder, const char *name, const char *text) {
  int fd = openat(folder->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd == -1)
    return -1;
  ssize_t length = (ssize_t)strlen(text);
  ssize_t written = write(fd, text, (size_t)length);
  return close(fd) == 0 && written == length ? 0 : -1;
}

static int take_lock(struct dev_folder *folder) {
  folder->lock_fd = openat(folder->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (folder->lock_fd == -1)
    return -1;
  while (flock(folder->lock_fd, LOCK_EX) == -1) {
    if (errno != EINTR) {
      close(folder->lock_fd);
      return -1;
    }
  }
  return 0;
}

int dev_folder_open(struct dev_folder *folder, bool create, char *message, size_t size) {
  bool made = create && mkdir(FOLDER, 0700) == 0;
  if (create && !made && errno != EEXIST)
    return dev_fail(message, size, "cannot create the folder " FOLDER ": %s", strerror(errno));
  folder->fd = open(FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder->fd == -1 && errno == ENOENT && !create)
    return 0;
  if (folder->fd == -1)
    return dev_fail(message, size, "cannot open the folder " FOLDER ": %s", strerror(errno));
  if (take_lock(folder) == -1) {
    dev_fail(message, size, "cannot lock " FOLDER "/lock: %s", strerror(errno));
    close(folder->fd);
    return -1;
  }
  /* The folder is often in a git checkout, and must not be committed. */
  if (made)
    (void)write_file(folder, ".gitignore", "*\n");
  return 1;
}

void dev_folder_close(struct dev_folder *folder) {
  close(folder->lock_fd);
  close(folder->fd);
}

static void remove_tree(int parent, const char *name) {
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  DIR *directory = fd == -1 ? NULL : fdopendir(fd);
  if (directory == NULL) {
    if (fd != -1)
      close(fd);
    unlinkat(parent, name, 0);
    return;
  }
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      remove_tree(fd, entry->d_name);
  closedir(directory);
  unlinkat(parent, name, AT_REMOVEDIR);
}

void dev_folder_remove(const struct dev_folder *folder, const char *name) {
  remove_tree(folder->fd, name);
}

int dev_folder_log(const struct dev_folder *folder) {
  struct stat status;
  int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
  if (fstatat(folder->fd, "log", &status, 0) == 0 && status.st_size > LOG_LIMIT)
    flags |= O_TRUNC;
  return openat(folder->fd, "log", flags, 0600);
}

void dev_folder_tail(const struct dev_folder *folder, off_t from, char *text, size_t size) {
  text[0] = '\0';
  int fd = openat(folder->fd, "log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd == -1)
    return;
  off_t end = lseek(fd, 0, SEEK_END);
  if (end - from > (off_t)size - 1)
    from = end - (off_t)size + 1;
  ssize_t length = end > from ? pread(fd, text, (size_t)(end - from), from) : 0;
  close(fd);
  while (length > 0 && text[length - 1] == '\n')
    length--;
  text[length > 0 ? length : 0] = '\0';
  char *start = text + (length > 0 ? length : 0);
  for (int lines = 0; start > text; start--)
    if (start[-1] == '\n' && ++lines == TAIL_LINES)
      break;
  memmove(text, start, strlen(start) + 1);
}

int dev_socket_new(const struct dev_folder *folder, uid_t owner, gid_t group, char *path, size_t size) {
  snprintf(path, size, "/tmp/pgq-dev-XXXXXX");
  if (mkdtemp(path) == NULL)
    return -1;
  if ((geteuid() != 0 || chown(path, owner, group) == 0) && write_file(folder, "socket", path) == 0)
    return 0;
  int error = errno;
  rmdir(path);
  errno = error;
  return -1;
}

bool dev_socket_path(const struct dev_folder *folder, uid_t owner, char *path, size_t size) {
  struct stat status;
  return read_line(folder, "socket", path, size) && lstat(path, &status) == 0 && S_ISDIR(status.st_mode) &&
         status.st_uid == owner && (status.st_mode & 0777) == 0700;
}

void dev_socket_remove(const struct dev_folder *folder, uid_t owner) {
  char path[DEV_SOCKET_SIZE];
  if (dev_socket_path(folder, owner, path, sizeof(path)))
    remove_tree(AT_FDCWD, path);
  unlinkat(folder->fd, "socket", 0);
}

bool dev_runs(const struct dev_folder *folder, pid_t pid) {
  char path[64];
  struct stat its, ours;
  /* The working directory of a server is the folder of its cluster. */
  if (kill(pid, 0) == -1 && errno == ESRCH)
    return false;
  if (access("/proc/self/cwd", F_OK) == -1)
    return true; /* without /proc, trust postmaster.pid, as pg_ctl does */
  snprintf(path, sizeof(path), "/proc/%ld/cwd", (long)pid);
  return stat(path, &its) == 0 && fstatat(folder->fd, "data", &ours, 0) == 0 && its.st_dev == ours.st_dev &&
         its.st_ino == ours.st_ino;
}

pid_t dev_postmaster(const struct dev_folder *folder, pid_t *stale) {
  char line[64];
  *stale = 0;
  if (!read_line(folder, "data/postmaster.pid", line, sizeof(line)))
    return 0;
  pid_t pid = (pid_t)strtol(line, NULL, 10);
  if (pid <= 1)
    return 0;
  if (dev_runs(folder, pid))
    return pid;
  *stale = kill(pid, 0) == 0 || errno == EPERM ? pid : 0;
  return 0;
}
