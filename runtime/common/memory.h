#ifndef PGQ_MEMORY_H
#define PGQ_MEMORY_H

#include <stddef.h>

/*
 * Allocation that cannot fail: when memory runs out, the process says so on stderr and aborts. A supervisor that dies
 * loses nothing (the server releases its locks); one that goes on after a failed allocation might.
 */

/* memory_new(size): `size` zeroed bytes; the caller frees them with free(). */
void *memory_new(size_t size) __attribute__((returns_nonnull, malloc));

/* memory_resize(old, size): realloc() that aborts; `old` may be NULL and is not to be used afterwards. */
void *memory_resize(void *old, size_t size) __attribute__((returns_nonnull));

/* memory_copy(bytes, length): a copy with a NUL behind it; the caller frees it. `bytes` may be NULL if length is 0. */
char *memory_copy(const void *bytes, size_t length) __attribute__((returns_nonnull, malloc));

/* memory_text(text): a copy of a NUL-terminated text, or NULL for NULL; the caller frees it. */
char *memory_text(const char *text);

#endif
