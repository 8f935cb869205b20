/* Tests of error_groups.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "error_groups.h"

static void expect(const char *error, const char *expected) {
  char key[200];
  error_groups_key(key, sizeof key, error);
  assert_string_equal(key, expected);
}

static void numbers_are_replaced(void **state) {
  (void)state;
  expect("", "");
  expect("worker.lua:12: timed out after 5.25 s", "worker.lua:#: timed out after #.# s");
  expect("-17 of 3e8, user42b7", "-# of #e#, user#b#");
  expect("no numbers", "no numbers");
}

static void words_that_are_hexadecimal_are_replaced(void **state) {
  (void)state;
  expect("at 0x7ffe12ab: bad", "at #: bad");
  expect("commit 3f9a0c12d4e5.", "commit #.");
  expect("id=6F9619FF-8B86-D011-B42D-00CF4FC964FF;", "id=#;");
  expect("6f9619ff-8b86-d011-b42d-00cf4fc964ffx", "#-#b#-d#-b#d-#cf#fc#ffx");
  expect("added deadbeef facade decade1", "added deadbeef facade decade#"); /* words, or too short */
  expect("deadbee5", "#");
}

static void a_long_text_is_cut(void **state) {
  (void)state;
  char key[8];
  error_groups_key(key, sizeof key, "abcdefghij");
  assert_string_equal(key, "abcdefg");
  error_groups_key(key, sizeof key, "ab 1 2 3 4 5");
  assert_string_equal(key, "ab # # ");
}

static void other_languages_stay(void **state) {
  (void)state;
  expect("größe 5 — 語 7", "größe # — 語 #");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_are_replaced),
      cmocka_unit_test(words_that_are_hexadecimal_are_replaced),
      cmocka_unit_test(a_long_text_is_cut),
      cmocka_unit_test(other_languages_stay),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
