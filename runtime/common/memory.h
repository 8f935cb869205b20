#ifndef PGQ_MEMORY_H
#define PGQ_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/*
 * These functions do not return on failure: the process writes a line to stderr and aborts. A supervisor that dies
 * loses no job, since the server releases its locks; one that continues after a failed allocation might lose jobs.
 */

/* memory_new(size): `size` zeroed bytes; the caller frees them with free(). */
void *memory_new(size_t size) __attribute__((returns_nonnull, malloc));

/* memory_resize(old, size): realloc() that aborts on failure. `old` may be NULL; it is invalid afterwards. */
void *memory_resize(void *old, size_t size) __attribute__((returns_nonnull));

/* memory_copy(bytes, length): a copy followed by a NUL, which the caller frees. `bytes` may be NULL if length is 0. */
char *memory_copy(const void *bytes, size_t length) __attribute__((returns_nonnull, malloc));

/* memory_text(text): a copy of a NUL-terminated text, or NULL for NULL; the caller frees it. */
char *memory_text(const char *text);

/* memory_set_limits(): what is freed of larger pieces goes back to the kernel at once; of smaller ones a few megabytes
 * stay with the process, since a worker needs them again for its next batch, and page faults cost more than to use
 * them. To be called once, at the start of a process that runs for long. */
enum { MEMORY_LARGE = 1 << 20 };
void memory_set_limits(void);

/* memory_has(size): whether an allocation of this size would succeed now. The other functions can then be called. */
bool memory_has(size_t size);

#endif
