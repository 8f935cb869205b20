#include "dev_folder.h"

#include <ctype.h>
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
#define TEMPORARY FOLDER ".XXXXXX"
#define LOG_LIMIT (1 << 20)
#define TAIL_LINES 8

/* The paths of socket folders, whose last characters are letters and digits. */
#define SOCKET_FOLDER "/tmp/pgq-dev-XXXXXX"
#define RANDOM_CHARACTERS 6

/* The file that says which .pgq-dev a folder is or belongs to: in .pgq-dev, and in the socket's folder. */
#define IDENTITY "created"

int dev_fail(char *message, size_t size, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, size, format, arguments);
  va_end(arguments);
  return -1;
}

/* Reads the first line of a file in a folder, without the newline. Returns false if the file does not exist or the line
 * is empty. */
static bool read_line(int folder, const char *name, char *line, size_t size) {
  int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
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

static int write_file(int folder, const char *name, const char *text) {
  int fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd == -1)
    return -1;
  ssize_t length = (ssize_t)strlen(text);
  ssize_t written = write(fd, text, (size_t)length);
  return close(fd) == 0 && written == length ? 0 : -1;
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

static int take_lock(struct dev_folder *folder) {
  folder->lock_fd = openat(folder->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
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

/* --- Which folders are ours ----------------------------------------------------------------------------------------
 *
 * A checkout can bring a .pgq-dev with any content. So a folder is only trusted if it has its own number and time of
 * birth written in it: whoever prepared the files of a checkout cannot know these.
 */

static void identify(int fd, char *identity, size_t size) {
  struct statx status = {0};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status) != 0)
    status.stx_ino = 0;
  snprintf(identity, size, "%llu %lld.%09u", (unsigned long long)status.stx_ino, (long long)status.stx_btime.tv_sec,
           status.stx_btime.tv_nsec);
}

static bool has_identity(int fd, const char *identity) {
  char line[DEV_IDENTITY_SIZE];
  return read_line(fd, IDENTITY, line, sizeof(line)) && strcmp(line, identity) == 0;
}

/* Creates the folder under another name, since another process may be doing the same. Returns 0, or -1 and errno. */
static int create_folder(void) {
  char name[] = TEMPORARY, identity[DEV_IDENTITY_SIZE];
  if (mkdtemp(name) == NULL)
    return -1;
  int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  identify(fd, identity, sizeof(identity));
  /* The folder is often in a git checkout, and must not be committed. */
  bool made = fd != -1 && write_file(fd, IDENTITY, identity) == 0 && write_file(fd, ".gitignore", "*\n") == 0;
  bool renamed = made && rename(name, FOLDER) == 0;
  int error = errno;
  if (fd != -1)
    close(fd);
  if (renamed)
    return 0;
  remove_tree(AT_FDCWD, name);
  errno = error;
  return made && (error == ENOTEMPTY || error == EEXIST) ? 0 : -1; /* another process was faster */
}

/* Opens the folder, or creates it. Returns its descriptor, or -1 and errno. */
static int open_folder(bool create) {
  const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;
  int fd = open(FOLDER, flags);
  if (fd == -1 && errno == ENOENT && create)
    fd = create_folder() == 0 ? open(FOLDER, flags) : -1;
  return fd;
}

/* Returns why the folder is not trusted, or NULL. */
static const char *distrust(struct dev_folder *folder) {
  struct stat status;
  identify(folder->fd, folder->identity, sizeof(folder->identity));
  if (fstat(folder->fd, &status) == -1 || status.st_uid != geteuid())
    return "belongs to another user";
  if ((status.st_mode & 0022) != 0)
    return "can be written by other users";
  if (!has_identity(folder->fd, folder->identity))
    return "was not created here by pgq-lua: it came with other files, or was copied";
  return NULL;
}

int dev_folder_open(struct dev_folder *folder, bool create, char *message, size_t size) {
  folder->fd = open_folder(create);
  if (folder->fd == -1 && errno == ENOENT && !create)
    return 0;
  if (folder->fd == -1)
    return dev_fail(message, size, "cannot open or create the folder " FOLDER ": %s",
                    errno == ELOOP || errno == ENOTDIR ? "it is not a folder, but a link or a file" : strerror(errno));
  const char *reason = distrust(folder);
  if (reason == NULL && take_lock(folder) == 0)
    return 1;
  if (reason != NULL)
    dev_fail(message, size, "the folder " FOLDER " %s; remove it, and start again", reason);
  else
    dev_fail(message, size, "cannot lock " FOLDER "/lock: %s", strerror(errno));
  close(folder->fd);
  return -1;
}

void dev_folder_close(struct dev_folder *folder) {
  close(folder->lock_fd);
  close(folder->fd);
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

/* --- The socket's folder -------------------------------------------------------------------------------------------
 */

int dev_socket_new(const struct dev_folder *folder, uid_t owner, gid_t group, char *path, size_t size) {
  snprintf(path, size, SOCKET_FOLDER);
  if (mkdtemp(path) == NULL)
    return -1;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  bool made = fd != -1 && write_file(fd, IDENTITY, folder->identity) == 0 &&
              (geteuid() != 0 || fchown(fd, owner, group) == 0) && write_file(folder->fd, "socket", path) == 0;
  int error = errno;
  if (!made && fd != -1)
    unlinkat(fd, IDENTITY, 0);
  if (fd != -1)
    close(fd);
  if (!made)
    rmdir(path);
  errno = error;
  return made ? 0 : -1;
}

/* Whether a path is one that dev_socket_new() makes. */
static bool is_socket_folder(const char *path) {
  size_t fixed = strlen(SOCKET_FOLDER) - RANDOM_CHARACTERS;
  if (strlen(path) != strlen(SOCKET_FOLDER) || strncmp(path, SOCKET_FOLDER, fixed) != 0)
    return false;
  for (const char *c = path + fixed; *c != '\0'; c++)
    if (!isalnum((unsigned char)*c))
      return false;
  return true;
}

/* Opens the recorded folder if it is that of this .pgq-dev. Returns its descriptor or -1. */
static int open_socket_folder(const struct dev_folder *folder, uid_t owner, char *path, size_t size) {
  struct stat status;
  if (!read_line(folder->fd, "socket", path, size) || !is_socket_folder(path))
    return -1;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd != -1 && fstat(fd, &status) == 0 && status.st_uid == owner && (status.st_mode & 0777) == 0700 &&
      has_identity(fd, folder->identity))
    return fd;
  if (fd != -1)
    close(fd);
  return -1;
}

bool dev_socket_path(const struct dev_folder *folder, uid_t owner, char *path, size_t size) {
  int fd = open_socket_folder(folder, owner, path, size);
  if (fd != -1)
    close(fd);
  return fd != -1;
}

void dev_socket_remove(const struct dev_folder *folder, uid_t owner) {
  static const char *const names[] = {".s.PGSQL.5432", ".s.PGSQL.5432.lock", IDENTITY};
  char path[DEV_SOCKET_SIZE];
  int fd = open_socket_folder(folder, owner, path, sizeof(path));
  for (size_t i = 0; fd != -1 && i < sizeof(names) / sizeof(names[0]); i++)
    unlinkat(fd, names[i], 0);
  if (fd != -1) {
    close(fd);
    rmdir(path);
  }
  unlinkat(folder->fd, "socket", 0);
}

/* --- The server ----------------------------------------------------------------------------------------------------
 */

int dev_folder_data(const struct dev_folder *folder) {
  return openat(folder->fd, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
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
  return stat(path, &its) == 0 && fstatat(folder->fd, "data", &ours, AT_SYMLINK_NOFOLLOW) == 0 &&
         its.st_dev == ours.st_dev && its.st_ino == ours.st_ino;
}

pid_t dev_postmaster(const struct dev_folder *folder, pid_t *stale) {
  char line[64];
  *stale = 0;
  int data = dev_folder_data(folder);
  bool found = data != -1 && read_line(data, "postmaster.pid", line, sizeof(line));
  if (data != -1)
    close(data);
  if (!found)
    return 0;
  pid_t pid = (pid_t)strtol(line, NULL, 10);
  if (pid <= 1)
    return 0;
  if (dev_runs(folder, pid))
    return pid;
  *stale = kill(pid, 0) == 0 || errno == EPERM ? pid : 0;
  return 0;
}
