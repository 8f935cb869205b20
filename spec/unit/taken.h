#ifndef PGQ_UNIT_TAKEN_H
#define PGQ_UNIT_TAKEN_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "frame.h"

/* take(out): the fields in `out`, as a frame that was found in a socket; memory of their own shows reads beyond the
 * end. `out` owns it. */
static inline struct frame take(struct buffer *out) {
  struct buffer exact = {.length = out->length, .capacity = out->length ? out->length : 1};
  exact.bytes = malloc(exact.capacity);
  if (out->length > 0)
    memcpy(exact.bytes, out->bytes, out->length);
  buffer_free(out);
  *out = exact;
  return (struct frame){.at = out->bytes, .end = out->bytes + out->length};
}

/* patch_u32(out, at, value): another number where one was written. */
static inline void patch_u32(struct buffer *out, size_t at, uint32_t value) {
  memcpy(out->bytes + at, &value, sizeof value);
}

#endif
