#include "refusal.h"

#include <stdarg.h>
#include <stdio.h>

enum { WRONG_USAGE = 2 };

int refuse(const char *command, const char *usage, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "pgq-lua %s: ", command);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\nusage: pgq-lua %s\n", usage);
  va_end(arguments);
  return WRONG_USAGE;
}
