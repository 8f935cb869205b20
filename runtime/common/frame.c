#include "frame.h"

#include <string.h>

#include "memory.h"

enum { LENGTH_SIZE = sizeof(uint32_t), HEADER_SIZE = LENGTH_SIZE + 1 };

size_t frame_begin(struct buffer *out, uint8_t type) {
  size_t mark = out->length;
  put_u32(out, 0);
  put_u8(out, type);
  return mark;
}

void frame_finish(struct buffer *out, size_t mark) {
  uint32_t length = (uint32_t)(out->length - mark - LENGTH_SIZE);
  memcpy(out->bytes + mark, &length, sizeof length);
}

void put_u8(struct buffer *out, uint8_t value) {
  buffer_add(out, &value, sizeof value);
}

void put_u32(struct buffer *out, uint32_t value) {
  buffer_add(out, &value, sizeof value);
}

void put_u64(struct buffer *out, uint64_t value) {
  buffer_add(out, &value, sizeof value);
}

void put_i64(struct buffer *out, int64_t value) {
  buffer_add(out, &value, sizeof value);
}

void put_f64(struct buffer *out, double value) {
  buffer_add(out, &value, sizeof value);
}

void put_bytes(struct buffer *out, const void *bytes, size_t length) {
  put_u32(out, (uint32_t)length);
  buffer_add(out, bytes, length);
}

void put_text(struct buffer *out, const char *text) {
  put_bytes(out, text, text ? strlen(text) : 0);
}

int frame_next(const unsigned char *bytes, size_t length, size_t most, struct frame *frame, size_t *size) {
  uint32_t follows;
  if (length < LENGTH_SIZE)
    return 0;
  memcpy(&follows, bytes, sizeof follows);
  if (follows < 1 || follows > most)
    return -1;
  *size = LENGTH_SIZE + (size_t)follows;
  if (length < *size)
    return 0;
  *frame = (struct frame){.type = bytes[LENGTH_SIZE], .at = bytes + HEADER_SIZE, .end = bytes + *size};
  return 1;
}

/* Returns the next `length` bytes. If the frame has fewer, marks it as bad and returns NULL. */
static const unsigned char *take(struct frame *frame, size_t length) {
  const unsigned char *at = frame->at;
  if (frame->bad || (size_t)(frame->end - at) < length) {
    frame->bad = true;
    return NULL;
  }
  frame->at += length;
  return at;
}

static void take_value(struct frame *frame, void *value, size_t size) {
  const unsigned char *at = take(frame, size);
  if (at)
    memcpy(value, at, size);
}

uint8_t get_u8(struct frame *frame) {
  uint8_t value = 0;
  take_value(frame, &value, sizeof value);
  return value;
}

uint32_t get_u32(struct frame *frame) {
  uint32_t value = 0;
  take_value(frame, &value, sizeof value);
  return value;
}

uint64_t get_u64(struct frame *frame) {
  uint64_t value = 0;
  take_value(frame, &value, sizeof value);
  return value;
}

int64_t get_i64(struct frame *frame) {
  int64_t value = 0;
  take_value(frame, &value, sizeof value);
  return value;
}

double get_f64(struct frame *frame) {
  double value = 0;
  take_value(frame, &value, sizeof value);
  return value;
}

const char *get_bytes(struct frame *frame, size_t *length) {
  uint32_t wanted = get_u32(frame);
  const unsigned char *at = take(frame, wanted);
  *length = at ? wanted : 0;
  return at ? (const char *)at : "";
}

char *get_text(struct frame *frame) {
  size_t length;
  const char *bytes = get_bytes(frame, &length);
  if (memchr(bytes, '\0', length)) {
    frame->bad = true;
    length = 0;
  }
  return memory_copy(bytes, length);
}

size_t frame_left(const struct frame *frame) {
  return frame->bad ? 0 : (size_t)(frame->end - frame->at);
}

bool frame_end_ok(const struct frame *frame) {
  return !frame->bad && frame->at == frame->end;
}
