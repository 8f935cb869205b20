#include "arguments.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

char **arguments_copy(int argc, char **argv) {
  char **copy = memory_new(((size_t)argc + 1) * sizeof *copy);
  for (int i = 0; i < argc; i++)
    copy[i] = memory_text(argv[i]);
  copy[argc] = NULL;
  return copy;
}

void arguments_free(int argc, char **copy) {
  for (int i = 0; i < argc; i++)
    free(copy[i]);
  free(copy);
}

void arguments_hide(char *argument) {
  memset(argument, '*', strlen(argument));
}
