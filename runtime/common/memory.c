#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *memory, size_t size) {
  if (!memory) {
    fprintf(stderr, "pgq-lua: out of memory (%zu bytes wanted)\n", size);
    abort();
  }
  return memory;
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
