#include "script_version.h"

#include <sodium.h>
#include <stdio.h>

void script_version(const char *path, char version[SCRIPT_VERSION_SIZE]) {
  enum { BLOCK = 16 * 1024 };
  unsigned char block[BLOCK], hash[crypto_hash_sha256_BYTES];
  crypto_hash_sha256_state state;
  size_t length;
  version[0] = '\0';
  FILE *file = fopen(path, "re");
  if (!file)
    return;
  crypto_hash_sha256_init(&state);
  while ((length = fread(block, 1, sizeof block, file)) > 0)
    crypto_hash_sha256_update(&state, block, length);
  if (!ferror(file)) {
    crypto_hash_sha256_final(&state, hash);
    sodium_bin2hex(version, SCRIPT_VERSION_SIZE, hash, (SCRIPT_VERSION_SIZE - 1) / 2);
  }
  fclose(file);
}
