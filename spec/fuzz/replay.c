/*
 * Feeds the inputs of a corpus to a fuzz target, without a fuzzer: replay ARCHIVE. The archive is a tar file as
 * spec/fuzz/run writes it (ustar, regular files only). The name of each input is printed first, so that the last line
 * of a run that dies names the input that caused it.
 */
#include <errno.h>
#include <string.h>

#include "memory.h"
#include "pieces.h"

/* A tar file is made of blocks: a header for each file, then the file's bytes, filled up with zeros. */
enum { BLOCK = 512, NAME_LENGTH = 100, SIZE_AT = 124, SIZE_LENGTH = 12, TYPE_AT = 156, MAGIC_AT = 257 };

/* Reads the file that the header announces, and feeds it to the target. Returns -1 if the archive is broken. */
static int replay(FILE *archive, const char *header) {
  char size_text[SIZE_LENGTH + 1] = {0};
  memcpy(size_text, header + SIZE_AT, SIZE_LENGTH);
  size_t size = strtoul(size_text, NULL, 8);
  if (memcmp(header + MAGIC_AT, "ustar", 5) != 0 || header[TYPE_AT] != '0')
    return -1;
  printf("%.*s\n", NAME_LENGTH, header);
  uint8_t *input = memory_new(size); /* exactly as large: the sanitizer finds reads behind it */
  char padding[BLOCK];
  size_t rest = (BLOCK - size % BLOCK) % BLOCK;
  int complete = fread(input, 1, size, archive) == size && fread(padding, 1, rest, archive) == rest;
  if (complete)
    LLVMFuzzerTestOneInput(input, size);
  free(input);
  return complete ? 0 : -1;
}

int main(int argc, char **argv) {
  char header[BLOCK];
  int count = 0;
  FILE *archive = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (!archive) {
    fprintf(stderr, "%s: %s\n", argc == 2 ? argv[1] : "usage: replay ARCHIVE", argc == 2 ? strerror(errno) : "");
    return 1;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (;;) {
    size_t length = fread(header, 1, BLOCK, archive);
    if (length == BLOCK && header[0] == '\0') /* a block of zeros is the end */
      break;
    if (length < BLOCK || replay(archive, header)) {
      fprintf(stderr, "%s: broken behind %d inputs\n", argv[1], count);
      return 1;
    }
    count++;
  }
  fclose(archive);
  printf("%d inputs\n", count);
  return count == 0;
}
