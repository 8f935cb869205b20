#include "memory.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Free memory at the end of the heap that stays with the process. */
enum { KEPT_MOST = 4 << 20 };

static void *checked(void *memory, size_t size) {
  if (!memory) {
    fprintf(stderr, "pgq-lua: out of memory (%zu bytes wanted)\n", size);
    abort();
  }
  return memory;
}

void memory_set_limits(void) {
  mallopt(M_MMAP_THRESHOLD, MEMORY_LARGE);
  mallopt(M_TRIM_THRESHOLD, KEPT_MOST);
}

bool memory_has(size_t size) {
  void *volatile probe = malloc(size);
  free(probe);
  return probe != NULL;
}

void *memory_new(size_t size) {
  return checked(calloc(1, size ? size : 1), size);
}

void *memory_resize(void *old, size_t size) {
  return checked(realloc(old, size ? size : 1), size);
}

char *memory_copy(const void *bytes, size_t length) {
  char *copy = checked(malloc(length + 1), length + 1);
  if (length)
    memcpy(copy, bytes, length);
  copy[length] = '\0';
  return copy;
}

char *memory_text(const char *text) {
  return text ? memory_copy(text, strlen(text)) : NULL;
}
