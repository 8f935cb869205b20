#include "sources.h"

#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* Adds the length, too, so that no two lists of texts give the same bytes. */
static void add(crypto_hash_sha256_state *state, const void *bytes, size_t length) {
  uint64_t size = length;
  crypto_hash_sha256_update(state, (const unsigned char *)&size, sizeof size);
  crypto_hash_sha256_update(state, bytes, length);
}

static void find_version(struct sources *sources) {
  unsigned char hash[crypto_hash_sha256_BYTES];
  crypto_hash_sha256_state state;
  crypto_hash_sha256_init(&state);
  for (uint32_t i = 0; i < sources->files.count; i++) {
    const struct message_source *file = &sources->files.items[i];
    add(&state, file->module, strlen(file->module));
    add(&state, file->path, strlen(file->path));
    add(&state, file->bytes, file->length);
  }
  crypto_hash_sha256_final(&state, hash);
  sodium_bin2hex(sources->version, sizeof sources->version, hash, sizeof sources->version / 2);
}

struct sources *sources_new(struct message_sources *files) {
  struct sources *sources = memory_new(sizeof *sources);
  sources->files = *files;
  sources->references = 1;
  *files = (struct message_sources){0};
  find_version(sources);
  return sources;
}

struct sources *sources_keep(struct sources *sources) {
  if (sources)
    sources->references++;
  return sources;
}

void sources_drop(struct sources *sources) {
  if (!sources || --sources->references > 0)
    return;
  message_free_sources(&sources->files);
  free(sources);
}
