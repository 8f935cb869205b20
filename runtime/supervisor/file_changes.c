#include "file_changes.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* How often the files are looked at, and how long no further change is waited for: editors write in several steps. */
enum { LOOK_MS = 200, QUIET_MS = 100 };

struct file {
  uv_fs_poll_t poll;
  char *path;
  struct file_changes *changes;
  struct file *next;
};

struct file_changes {
  uv_loop_t *loop;
  void (*changed)(void *owner, const char *path);
  void *owner;
  uv_timer_t timer; /* runs from a change until changed() is called */
  char *path;       /* the file that changed last */
  struct file *files;
};

struct file_changes *file_changes_new(uv_loop_t *loop, void (*changed)(void *owner, const char *path), void *owner) {
  struct file_changes *changes = memory_new(sizeof *changes);
  *changes = (struct file_changes){.loop = loop, .changed = changed, .owner = owner};
  uv_timer_init(loop, &changes->timer);
  changes->timer.data = changes;
  return changes;
}

static void on_quiet(uv_timer_t *timer) {
  struct file_changes *changes = timer->data;
  changes->changed(changes->owner, changes->path);
}

static void on_change(uv_fs_poll_t *poll, int status, const uv_stat_t *before, const uv_stat_t *now) {
  struct file *file = poll->data;
  (void)before;
  (void)now;
  if (status != 0) /* the file is missing: it is being replaced */
    return;
  free(file->changes->path);
  file->changes->path = memory_text(file->path);
  uv_timer_start(&file->changes->timer, on_quiet, QUIET_MS, 0);
}

static void free_file(uv_handle_t *poll) {
  struct file *file = poll->data;
  free(file->path);
  free(file);
}

static bool is_watched(const struct file_changes *changes, const char *path) {
  for (const struct file *file = changes->files; file; file = file->next)
    if (strcmp(file->path, path) == 0)
      return true;
  return false;
}

static void add(struct file_changes *changes, const char *path) {
  struct file *file = memory_new(sizeof *file);
  *file = (struct file){.path = memory_text(path), .changes = changes, .next = changes->files};
  changes->files = file;
  uv_fs_poll_init(changes->loop, &file->poll);
  file->poll.data = file;
  uv_fs_poll_start(&file->poll, on_change, path, LOOK_MS);
}

void file_changes_add(struct file_changes *changes, const struct sources *sources) {
  for (uint32_t i = 0; sources && i < sources->files.count; i++)
    if (!is_watched(changes, sources->files.items[i].path))
      add(changes, sources->files.items[i].path);
}

static bool has_path(const struct sources *sources, const char *path) {
  for (uint32_t i = 0; sources && i < sources->files.count; i++)
    if (strcmp(sources->files.items[i].path, path) == 0)
      return true;
  return false;
}

void file_changes_forget_others(struct file_changes *changes, const struct sources *sources) {
  for (struct file **at = &changes->files; *at;) {
    struct file *file = *at;
    if (has_path(sources, file->path)) {
      at = &file->next;
      continue;
    }
    *at = file->next;
    uv_close((uv_handle_t *)&file->poll, free_file);
  }
}

static void free_changes(uv_handle_t *timer) {
  struct file_changes *changes = timer->data;
  free(changes->path);
  free(changes);
}

void file_changes_free(struct file_changes *changes) {
  if (!changes)
    return;
  file_changes_forget_others(changes, NULL);
  uv_close((uv_handle_t *)&changes->timer, free_changes);
}
