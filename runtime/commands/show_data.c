#include "show_data.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "buffer.h"
#include "commands_sql.h"
#include "memory.h"
#include "printable.h"
#include "text.h"

PGresult *show_data_fetch(struct inquiry *inquiry, const char *id) {
  PGresult *result = transaction_ask_binary(&inquiry->transaction, SQL_JOB_DATA, 1, &id);
  if (!result || PQntuples(result) > 0)
    return result;
  fprintf(stderr, "pgq-lua show: job %s is not in the table: there is no data\n", id);
  PQclear(result);
  return NULL;
}

static int write_file(const char *path, const void *bytes, size_t length) {
  FILE *file = fopen(path, "wb");
  bool written = file && fwrite(bytes, 1, length, file) == length;
  int problem = errno;
  if (file && fclose(file) != 0 && written) {
    written = false;
    problem = errno;
  }
  if (written)
    return 0;
  fprintf(stderr, "pgq-lua show: cannot write the data into '%.300s': %s\n", path, strerror(problem));
  return -1;
}

static int print_on_terminal(const char *text, size_t length) {
  struct buffer out = {0};
  if (!text_is_utf8(text, length)) {
    fprintf(stderr, "pgq-lua show: the %zu bytes of data are not text: use --data-file, or send them into a pipe\n",
            length);
    return -1;
  }
  printable_add(&out, text, PRINTABLE_LINES);
  if (out.length > 0 && out.bytes[out.length - 1] != '\n')
    buffer_add(&out, "\n", 1);
  fwrite(out.bytes, 1, out.length, stdout);
  buffer_free(&out);
  return 0;
}

int show_data_print(const struct options *options, const PGresult *result) {
  const char *bytes = PQgetvalue(result, 0, 0);
  size_t length = (size_t)PQgetlength(result, 0, 0);
  if (options->data_file && write_file(options->data_file, bytes, length) != 0)
    return -1;
  if (options->data_file) {
    printf("%zu bytes of data are in %s\n", length, options->data_file);
  } else if (isatty(STDOUT_FILENO)) {
    if (print_on_terminal(bytes, length) != 0)
      return -1;
  } else {
    fwrite(bytes, 1, length, stdout);
  }
  if (fflush(stdout) == 0 && !ferror(stdout))
    return 0;
  fprintf(stderr, "pgq-lua show: the data could not be printed: %s\n", strerror(errno));
  return -1;
}

char *show_data_hex(const PGresult *result) {
  static const char digits[] = "0123456789abcdef";
  const unsigned char *bytes = (const unsigned char *)PQgetvalue(result, 0, 0);
  size_t length = (size_t)PQgetlength(result, 0, 0);
  char *hex = memory_new(2 * length + 1);
  for (size_t i = 0; i < length; i++) {
    hex[2 * i] = digits[bytes[i] >> 4];
    hex[2 * i + 1] = digits[bytes[i] & 15];
  }
  return hex;
}
