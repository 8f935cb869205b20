/* Tests of nearest.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "nearest.h"

static const char *const names[] = {"mail", "reports", "thumbnails", "thumbnails_large", "a"};

static const char *nearest(const char *word) {
  return nearest_word(word, names, sizeof names / sizeof names[0]);
}

static void a_word_with_a_slip_is_found(void **state) {
  (void)state;
  assert_string_equal(nearest("mial"), "mail");
  assert_string_equal(nearest("mai"), "mail");
  assert_string_equal(nearest("email"), "mail");
  assert_string_equal(nearest("report"), "reports");
  assert_string_equal(nearest("thumbnail"), "thumbnails");
  assert_string_equal(nearest("thumbnails-large"), "thumbnails_large");
  assert_string_equal(nearest("mail"), "mail");
}

static void a_word_that_is_like_none_is_not(void **state) {
  (void)state;
  char longest[1000];
  memset(longest, 'x', sizeof longest);
  longest[sizeof longest - 1] = '\0';
  assert_null(nearest("b"));
  assert_null(nearest("moon"));
  assert_null(nearest(""));
  assert_null(nearest(longest));
  assert_null(nearest_word("mail", (const char *const[]){longest}, 1));
  assert_null(nearest_word("mail", names, 0));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_word_with_a_slip_is_found),
      cmocka_unit_test(a_word_that_is_like_none_is_not),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
