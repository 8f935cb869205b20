#include "job_values.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "duration.h"
#include "memory.h"
#include "pgq.h"

enum { READ_SIZE = 1 << 16 };

void wait_list_free(struct wait_list *waits) {
  while (waits->count > 0)
    free(waits->texts[--waits->count]);
}

/* In options a number without a unit is in seconds; the library only accepts durations with units. */
static int add_wait(struct wait_list *waits, const char *text, size_t length, const char *command) {
  char canonical[DURATION_TEXT_SIZE];
  const char *problem = "is one wait too many";
  int64_t ms;
  if (waits->count == WAIT_MOST || duration_parse_option(text, length, &ms, &problem) != 0) {
    fprintf(stderr, "pgq-lua %s: --retry-waits: '%.*s' %s; write seconds or durations, such as 30s,10m,1h\n", command,
            (int)length, text, problem);
    return -1;
  }
  duration_format(ms, canonical);
  waits->texts[waits->count++] = memory_text(canonical);
  return 0;
}

int wait_list_read(struct wait_list *waits, const char *text, const char *command) {
  while (text && *text) {
    size_t length = strcspn(text, ",");
    if (add_wait(waits, text, length, command) != 0)
      return -1;
    text += length;
    if (*text == ',' && *++text == '\0')
      return add_wait(waits, "", 0, command);
  }
  return 0;
}

static int read_all(struct buffer *data, int fd, const char *name, const char *command) {
  ssize_t length;
  while ((length = read(fd, buffer_space(data, READ_SIZE), READ_SIZE)) > 0) {
    data->length += (size_t)length;
    if (data->length > PGQ_DATA_MAX) {
      fprintf(stderr, "pgq-lua %s: %s has more than %zu bytes, the limit of a job's data\n", command, name,
              PGQ_DATA_MAX);
      return -1;
    }
  }
  if (length < 0)
    fprintf(stderr, "pgq-lua %s: cannot read %s: %s\n", command, name, strerror(errno));
  return length < 0 ? -1 : 0;
}

int data_read(struct buffer *data, const char *path, const char *command) {
  if (strcmp(path, "-") == 0)
    return read_all(data, STDIN_FILENO, "standard input", command);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    fprintf(stderr, "pgq-lua %s: cannot open '%.300s': %s\n", command, path, strerror(errno));
    return -1;
  }
  int status = read_all(data, fd, path, command);
  close(fd);
  return status;
}
