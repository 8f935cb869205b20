#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "frame.h"

enum { TYPE = 7, MOST = 1 << 20 };

static void write_one(struct buffer *out) {
  size_t mark = frame_begin(out, TYPE);
  put_u8(out, 200);
  put_u32(out, 4000000000u);
  put_u64(out, UINT64_MAX);
  put_i64(out, INT64_MIN);
  put_f64(out, 0.1);
  put_bytes(out, "a\0b", 3);
  put_bytes(out, NULL, 0);
  put_text(out, "text");
  put_text(out, NULL);
  frame_finish(out, mark);
}

static void what_was_put_is_got(void **state) {
  (void)state;
  struct buffer bytes = {0};
  struct frame frame;
  size_t size, length;
  write_one(&bytes);
  assert_int_equal(frame_next(bytes.bytes, bytes.length, MOST, &frame, &size), 1);
  assert_int_equal(size, bytes.length);
  assert_int_equal(frame.type, TYPE);
  assert_int_equal(get_u8(&frame), 200);
  assert_int_equal(get_u32(&frame), 4000000000u);
  assert_true(get_u64(&frame) == UINT64_MAX);
  assert_true(get_i64(&frame) == INT64_MIN);
  assert_true(get_f64(&frame) == 0.1);
  const char *found = get_bytes(&frame, &length);
  assert_int_equal(length, 3);
  assert_memory_equal(found, "a\0b", 3);
  get_bytes(&frame, &length);
  assert_int_equal(length, 0);
  char *text = get_text(&frame);
  assert_string_equal(text, "text");
  free(text);
  assert_false(frame_end_ok(&frame)); /* a text is left over */
  text = get_text(&frame);
  assert_string_equal(text, "");
  free(text);
  assert_true(frame_end_ok(&frame));
  buffer_free(&bytes);
}

static void a_frame_in_pieces_is_waited_for(void **state) {
  (void)state;
  struct buffer bytes = {0};
  struct frame frame;
  size_t size;
  write_one(&bytes);
  for (size_t length = 0; length < bytes.length; length++) {
    char *piece = malloc(length + 1); /* of its own, so that a sanitizer sees a read beyond it */
    memcpy(piece, bytes.bytes, length);
    char *exact = realloc(piece, length ? length : 1);
    assert_int_equal(frame_next((unsigned char *)exact, length, MOST, &frame, &size), 0);
    free(exact);
  }
  buffer_free(&bytes);
}

static void reading_beyond_the_end_gives_zeroes_and_a_bad_frame(void **state) {
  (void)state;
  struct buffer bytes = {0};
  struct frame frame;
  size_t size, length;
  size_t mark = frame_begin(&bytes, TYPE);
  put_u8(&bytes, 1);
  frame_finish(&bytes, mark);
  frame_next(bytes.bytes, bytes.length, MOST, &frame, &size);
  assert_int_equal(get_u32(&frame), 0);
  assert_true(frame.bad);
  assert_int_equal(get_u8(&frame), 0); /* also what would have fitted: the frame is not what it claims to be */
  assert_non_null(get_bytes(&frame, &length));
  assert_int_equal(length, 0);
  assert_false(frame_end_ok(&frame));
  buffer_free(&bytes);
}

static void a_length_inside_a_frame_is_not_believed(void **state) {
  (void)state;
  struct buffer bytes = {0};
  struct frame frame;
  size_t size, length;
  size_t mark = frame_begin(&bytes, TYPE);
  put_u32(&bytes, UINT32_MAX); /* announces four gigabytes */
  put_u8(&bytes, 1);
  frame_finish(&bytes, mark);
  frame_next(bytes.bytes, bytes.length, MOST, &frame, &size);
  get_bytes(&frame, &length);
  assert_int_equal(length, 0);
  assert_true(frame.bad);
  buffer_free(&bytes);
}

static void a_text_with_a_nul_inside_is_malformed(void **state) {
  (void)state;
  struct buffer bytes = {0};
  struct frame frame;
  size_t size;
  size_t mark = frame_begin(&bytes, TYPE);
  put_bytes(&bytes, "a\0b", 3);
  frame_finish(&bytes, mark);
  frame_next(bytes.bytes, bytes.length, MOST, &frame, &size);
  assert_int_equal(frame_left(&frame), 7);
  char *text = get_text(&frame);
  assert_string_equal(text, "");
  assert_true(frame.bad);
  assert_int_equal(frame_left(&frame), 0);
  free(text);
  buffer_free(&bytes);
}

static void a_frame_too_long_or_without_a_type_is_malformed(void **state) {
  (void)state;
  static const unsigned char empty[4] = {0}, huge[4] = {0xff, 0xff, 0xff, 0xff};
  struct frame frame;
  size_t size;
  assert_int_equal(frame_next(empty, sizeof empty, MOST, &frame, &size), -1);
  assert_int_equal(frame_next(huge, sizeof huge, MOST, &frame, &size), -1);
}

static void a_buffer_gives_back_what_a_big_frame_needed(void **state) {
  (void)state;
  struct buffer bytes = {0};
  memset(buffer_space(&bytes, 8 << 20), 'x', 8 << 20);
  bytes.length = 8 << 20;
  buffer_add(&bytes, "rest", 4);
  buffer_drop(&bytes, 8 << 20);
  assert_int_equal(bytes.length, 4);
  assert_memory_equal(bytes.bytes, "rest", 4);
  buffer_drop(&bytes, 4);
  assert_int_equal(bytes.capacity, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_was_put_is_got),
      cmocka_unit_test(a_frame_in_pieces_is_waited_for),
      cmocka_unit_test(reading_beyond_the_end_gives_zeroes_and_a_bad_frame),
      cmocka_unit_test(a_length_inside_a_frame_is_not_believed),
      cmocka_unit_test(a_text_with_a_nul_inside_is_malformed),
      cmocka_unit_test(a_frame_too_long_or_without_a_type_is_malformed),
      cmocka_unit_test(a_buffer_gives_back_what_a_big_frame_needed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
