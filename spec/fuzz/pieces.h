#ifndef PGQ_FUZZ_PIECES_H
#define PGQ_FUZZ_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "buffer.h"

/* Shared by both fuzz targets: cuts an input into pieces, as a socket would deliver it. */

/* EXPECT(condition): ends the process, with the place, when it does not hold; in every kind of build. */
#define EXPECT(condition)                                                                                              \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                          \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

/* libFuzzer's entry, which replay.c calls too: 0, or the process dies. The bytes are the caller's. */
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length);

/*
 * pieces_feed(input, length, in, take, context): the input's first byte says how the rest is cut: 0 between frames, n
 * after every n bytes. Each piece is added to `in`, which is given memory of exactly its length, so that a sanitizer
 * sees every read behind it; then take() is called, which handles what is whole. It returns false to end.
 */
void pieces_feed(const uint8_t *input, size_t length, struct buffer *in, bool (*take)(void *context), void *context);

/*
 * pieces_round_trip(input, length): reads every frame of the input with the reader of its type. What a reader accepts
 * has to come out of the writer as the same bytes; what it refuses has to be marked as bad.
 */
void pieces_round_trip(const uint8_t *input, size_t length);

#endif
