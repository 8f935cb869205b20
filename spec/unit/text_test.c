#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define BAD "\xef\xbf\xbd"

/* A literal that may hold NUL bytes. */
#define BYTES(literal) literal, sizeof(literal) - 1

static void valid_utf8_is_told_from_invalid(void **state) {
  (void)state;
  static const struct {
    const char *bytes;
    size_t length;
    bool valid;
  } cases[] = {
      {BYTES(""), true},
      {BYTES("hello"), true},
      {BYTES("\x7f\x01"), true},
      {BYTES("gr\xc3\xbc\xc3\x9f"), true},
      {BYTES("\xc2\x80"), true},
      {BYTES("\xdf\xbf"), true},
      {BYTES("\xe0\xa0\x80"), true},
      {BYTES("\xed\x9f\xbf"), true},
      {BYTES("\xee\x80\x80"), true},
      {BYTES("\xef\xbf\xbf"), true},
      {BYTES("\xf0\x90\x80\x80"), true},
      {BYTES("\xf4\x8f\xbf\xbf"), true},
      {BYTES("\0"), false},
      {BYTES("a\0b"), false},
      {BYTES("\x80"), false},
      {BYTES("a\xbf"), false},
      {BYTES("\xc3"), false},
      {BYTES("\xc3("), false},
      {BYTES("\xe2\x82"), false},
      {BYTES("\xe2(\xa1"), false},
      {BYTES("\xf0\x9f\x98"), false},
      {BYTES("\xc0\x80"), false},         /* overlong NUL */
      {BYTES("\xc1\xbf"), false},         /* overlong */
      {BYTES("\xe0\x9f\xbf"), false},     /* overlong */
      {BYTES("\xf0\x8f\xbf\xbf"), false}, /* overlong */
      {BYTES("\xed\xa0\x80"), false},     /* surrogate */
      {BYTES("\xed\xbf\xbf"), false},     /* surrogate */
      {BYTES("\xf4\x90\x80\x80"), false}, /* above U+10FFFF */
      {BYTES("\xf5\x80\x80\x80"), false},
      {BYTES("\xf8\x88\x80\x80\x80"), false},
      {BYTES("\xff\xfe"), false},
  };
  for (size_t i = 0; i < COUNT(cases); i++)
    if (text_is_utf8(cases[i].bytes, cases[i].length) != cases[i].valid)
      fail_msg("case %zu should be %s", i, cases[i].valid ? "valid" : "invalid");
}

static void a_character_is_not_read_beyond_the_length(void **state) {
  (void)state;
  assert_false(text_is_utf8("\xc3\xbc", 1));
  assert_true(text_is_utf8("a\xff", 1));
}

/* Cleans into a block of exactly `out_size` bytes, so that the sanitizer sees a write beyond it. */
static void expect_clean(size_t out_size, const char *in, size_t length, const char *expected) {
  char *out = malloc(out_size);
  assert_non_null(out);
  size_t used = text_clean(out, out_size, in, length);
  assert_int_equal(out[used], 0);
  assert_string_equal(out, expected);
  assert_int_equal(used, strlen(expected));
  free(out);
}

static void bad_bytes_and_nul_are_replaced(void **state) {
  (void)state;
  expect_clean(100, BYTES(""), "");
  expect_clean(100, BYTES("plain"), "plain");
  expect_clean(100, BYTES("gr\xc3\xbcn"), "gr\xc3\xbcn");
  expect_clean(100, BYTES("a\0b"), "a" BAD "b");
  expect_clean(100, BYTES("\xff\xfe"), BAD BAD);
  expect_clean(100, BYTES("x\xc3"), "x" BAD);
  expect_clean(100, BYTES("\xed\xa0\x80!"), BAD BAD BAD "!");
  expect_clean(100, BYTES("\xc0\x80"), BAD BAD);
}

static void what_does_not_fit_is_cut_between_characters(void **state) {
  (void)state;
  expect_clean(6, BYTES("hello"), "hello");
  expect_clean(6, BYTES("hello!"), "he\xe2\x80\xa6");
  expect_clean(7, BYTES("a\xc3\xbc\xc3\xbc\xc3\xbc"), "a\xc3\xbc\xe2\x80\xa6");
  expect_clean(6, BYTES("a\xc3\xbc\xc3\xbc\xc3\xbc"), "a\xe2\x80\xa6");
  expect_clean(6, BYTES("a\xff\xff"), "a\xe2\x80\xa6");
  expect_clean(8, BYTES("a\xff\xff"), "a" BAD BAD);
  expect_clean(4, BYTES("hello"), "\xe2\x80\xa6");
  expect_clean(3, BYTES("hello"), "he");
  expect_clean(2, BYTES("\xc3\xbc"), "");
  expect_clean(1, BYTES("hello"), "");
  assert_int_equal(text_clean(NULL, 0, "hello", 5), 0);
}

static void any_bytes_become_valid_text_of_any_size(void **state) {
  (void)state;
  uint32_t random = 12345;
  for (int round = 0; round < 20000; round++) {
    char in[24], out[40];
    for (size_t i = 0; i < sizeof in; i++) {
      random = random * 1664525 + 1013904223;
      in[i] = (char)(random >> 24);
    }
    size_t out_size = 1 + (random >> 8) % sizeof out;
    size_t used = text_clean(out, out_size, in, sizeof in);
    assert_true(used < out_size);
    assert_true(text_is_utf8(out, used));
    assert_int_equal(strlen(out), used);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(valid_utf8_is_told_from_invalid),
      cmocka_unit_test(a_character_is_not_read_beyond_the_length),
      cmocka_unit_test(bad_bytes_and_nul_are_replaced),
      cmocka_unit_test(what_does_not_fit_is_cut_between_characters),
      cmocka_unit_test(any_bytes_become_valid_text_of_any_size),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
