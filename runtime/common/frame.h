#ifndef PGQ_FRAME_H
#define PGQ_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

/*
 * The codec between supervisor and executor. A frame is a length (u32, of all that follows), a type (u8), and fields
 * written by put_* and read back in the same order by get_*. Both ends are one program on one machine, so numbers
 * stand in the machine's own byte order.
 *
 * A reader never trusts the other end: a get_* beyond the end marks the frame as bad and returns zeroes, and
 * frame_end_ok() tells whether every byte was there and every byte was read.
 */

/* frame_begin(out, type): starts a frame at the end of `out`; returns the mark that frame_finish() wants. */
size_t frame_begin(struct buffer *out, uint8_t type);

/* frame_finish(out, mark): writes the length of the frame that began at `mark`. */
void frame_finish(struct buffer *out, size_t mark);

void put_u8(struct buffer *out, uint8_t value);
void put_u32(struct buffer *out, uint32_t value);
void put_u64(struct buffer *out, uint64_t value);
void put_i64(struct buffer *out, int64_t value);
void put_f64(struct buffer *out, double value);

/* put_bytes(out, bytes, length): a u32 length and the bytes, which may be anything; length < 4 GiB. */
void put_bytes(struct buffer *out, const void *bytes, size_t length);

/* put_text(out, text): the bytes of a NUL-terminated text, without the NUL. NULL is written as an empty text. */
void put_text(struct buffer *out, const char *text);

/* A frame being read. Its bytes belong to the buffer it was found in and live as long as that is not touched. */
struct frame {
  uint8_t type;
  const unsigned char *at;
  const unsigned char *end;
  bool bad;
};

/*
 * frame_next(bytes, length, most, frame, size): looks for a whole frame at the front of `bytes`. Returns 1 and sets
 * *frame and its *size (all bytes it takes), 0 when more bytes are needed, -1 when the frame claims to be longer than
 * `most` bytes or has no type.
 */
int frame_next(const unsigned char *bytes, size_t length, size_t most, struct frame *frame, size_t *size);

uint8_t get_u8(struct frame *frame);
uint32_t get_u32(struct frame *frame);
uint64_t get_u64(struct frame *frame);
int64_t get_i64(struct frame *frame);
double get_f64(struct frame *frame);

/* get_bytes(frame, length): the next bytes, in place; *length is 0 and the result is never NULL if the frame is bad. */
const char *get_bytes(struct frame *frame, size_t *length);

/* get_text(frame): the next bytes as a NUL-terminated text, which the caller frees. A NUL among them makes it bad. */
char *get_text(struct frame *frame);

/* frame_left(frame): how many bytes are still to be read. */
size_t frame_left(const struct frame *frame);

/* frame_end_ok(frame): true when nothing was missing and nothing is left over. */
bool frame_end_ok(const struct frame *frame);

#endif
