#ifndef PGQ_FILE_CHANGES_H
#define PGQ_FILE_CHANGES_H

#include <uv.h>

#include "sources.h"

/* Looks for changes of the script's files, for --watch: their sizes, times and places are compared several times a
 * second. */
struct file_changes;

/* file_changes_new(loop, changed, owner): changed() is called a moment after a file has changed, with its path. */
struct file_changes *file_changes_new(uv_loop_t *loop, void (*changed)(void *owner, const char *path), void *owner);

/* file_changes_add(changes, sources): looks for changes of these files, too; NULL is allowed.
 * file_changes_forget_others(changes, sources): of no others. A file that stays is compared with what it was when it
 * was looked at last, so that a change is not missed that has come since the script was read. */
void file_changes_add(struct file_changes *changes, const struct sources *sources);
void file_changes_forget_others(struct file_changes *changes, const struct sources *sources);

/* file_changes_free(changes): NULL is allowed. */
void file_changes_free(struct file_changes *changes);

#endif
