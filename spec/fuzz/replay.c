/*
 * Feeds the files of a folder to a fuzz target, without a fuzzer: replay FOLDER. The name of each is printed first, so
 * that the last line of a run that dies names the culprit.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "buffer.h"
#include "memory.h"
#include "pieces.h"

static int is_input(const struct dirent *entry) {
  return entry->d_name[0] != '.';
}

static int replay(const char *path) {
  struct buffer content = {0};
  size_t length;
  FILE *file = fopen(path, "rb");
  if (!file) {
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return -1;
  }
  while ((length = fread(buffer_space(&content, 4096), 1, 4096, file)) > 0)
    content.length += length;
  fclose(file);
  uint8_t *exact = memory_new(content.length);
  memcpy(exact, content.bytes, content.length);
  LLVMFuzzerTestOneInput(exact, content.length);
  free(exact);
  buffer_free(&content);
  return 0;
}

int main(int argc, char **argv) {
  struct dirent **entries;
  int failed = 0, count = argc == 2 ? scandir(argv[1], &entries, is_input, alphasort) : -1;
  if (count <= 0) {
    fprintf(stderr, "%s: no inputs in %s\n", argv[0], argc == 2 ? argv[1] : "(no folder given)");
    return 1;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int i = 0; i < count; i++) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", argv[1], entries[i]->d_name);
    puts(path);
    failed += replay(path) != 0;
    free(entries[i]);
  }
  free(entries);
  printf("%d inputs\n", count);
  return failed > 0;
}
