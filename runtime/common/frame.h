#ifndef PGQ_FRAME_H
#define PGQ_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

/*
 * The encoding of messages between supervisor and executor. A frame is a length (u32, counting all bytes after it), a
 * type (u8), and fields, which put_* functions write and get_* functions read in the same order. Both ends are the same
 * program on the same machine, so numbers have the machine's byte order.
 *
 * A reader does not trust the writer. A get_* function that would read beyond the end marks the frame as bad and
 * returns zeroes. frame_end_ok() tells at the end whether all fields were there and no byte is left.
 */

/* frame_begin(out, type): starts a frame at the end of `out`. Returns the mark to pass to frame_finish(). */
size_t frame_begin(struct buffer *out, uint8_t type);

/* frame_finish(out, mark): writes the length of the frame that began at `mark`. */
void frame_finish(struct buffer *out, size_t mark);

void put_u8(struct buffer *out, uint8_t value);
void put_u32(struct buffer *out, uint32_t value);
void put_u64(struct buffer *out, uint64_t value);
void put_i64(struct buffer *out, int64_t value);
void put_f64(struct buffer *out, double value);

/* put_bytes(out, bytes, length): a u32 length and `length` bytes of any value; less than 4 GiB. */
void put_bytes(struct buffer *out, const void *bytes, size_t length);

/* put_text(out, text): the bytes of a NUL-terminated text without the NUL. NULL is written as an empty text. */
void put_text(struct buffer *out, const char *text);

/* A frame that is being read. Its bytes belong to the buffer where frame_next() found it. */
struct frame {
  uint8_t type;
  const unsigned char *at;
  const unsigned char *end;
  bool bad;
};

/*
 * frame_next(bytes, length, most, frame, size): finds the frame at the front of `bytes`. Returns 1, and sets *frame and
 * *size, the number of bytes it occupies; 0 when the frame is not complete yet; -1 when it claims to be longer than
 * `most` bytes or has no type. *frame points into `bytes`.
 */
int frame_next(const unsigned char *bytes, size_t length, size_t most, struct frame *frame, size_t *size);

uint8_t get_u8(struct frame *frame);
uint32_t get_u32(struct frame *frame);
uint64_t get_u64(struct frame *frame);
int64_t get_i64(struct frame *frame);
double get_f64(struct frame *frame);

/* get_bytes(frame, length): the next bytes, not copied. Never NULL; of a bad frame *length is 0. */
const char *get_bytes(struct frame *frame, size_t *length);

/* get_text(frame): a NUL-terminated copy of the next bytes, which the caller frees. A NUL among them is an error. */
char *get_text(struct frame *frame);

/* frame_left(frame): the number of bytes that have not been read; 0 for a bad frame. */
size_t frame_left(const struct frame *frame);

/* frame_end_ok(frame): whether the frame is not bad and has been read to its last byte. */
bool frame_end_ok(const struct frame *frame);

#endif
