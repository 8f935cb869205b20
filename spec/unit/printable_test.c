/* Tests of printable.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "printable.h"

static void expect(const char *text, enum printable_form form, const char *expected) {
  struct buffer out = {0};
  printable_add(&out, text, form);
  buffer_add(&out, "", 1);
  assert_string_equal((const char *)out.bytes, expected);
  buffer_free(&out);
}

static void letters_of_all_languages_stay(void **state) {
  (void)state;
  static const char text[] = "a ~ é ß Ж 語 العربية ไทย 한 🎉 \xf3\xb0\x80\x80";
  assert_true(printable_is(text));
  expect(text, PRINTABLE_TEXT, text);
  expect(text, PRINTABLE_JSON, text);
  expect("", PRINTABLE_TEXT, "");
}

static void hidden_characters_are_escaped(void **state) {
  (void)state;
  static const struct {
    const char *text, *escaped;
  } cases[] = {
      {"\x01", "\\x01"},           {"\x1b[31m", "\\x1b[31m"},
      {"\x7f", "\\x7f"},           {"\xc2\x80", "\\u0080"},             /* the first of C1 */
      {"\xc2\x85", "\\u0085"},                                          /* next line */
      {"\xc2\x9b", "\\u009b"},                                          /* begins a sequence of a terminal */
      {"\xc2\x9f", "\\u009f"},     {"\xc2\xad", "\\u00ad"},             /* soft hyphen */
      {"\xd8\x9c", "\\u061c"},                                          /* Arabic letter mark */
      {"\xe2\x80\x8b", "\\u200b"},                                      /* zero-width space */
      {"\xe2\x80\x8d", "\\u200d"},                                      /* zero-width joiner */
      {"\xe2\x80\x8e", "\\u200e"},                                      /* left-to-right mark */
      {"\xe2\x80\xa8", "\\u2028"},                                      /* line separator */
      {"\xe2\x80\xa9", "\\u2029"},                                      /* paragraph separator */
      {"\xe2\x80\xae", "\\u202e"},                                      /* right-to-left override */
      {"\xe2\x81\xa0", "\\u2060"},                                      /* word joiner */
      {"\xe2\x81\xa6", "\\u2066"},                                      /* isolate */
      {"\xe2\x81\xa9", "\\u2069"}, {"\xef\xbb\xbf", "\\ufeff"},         /* byte order mark */
      {"\xef\xbf\xbe", "\\ufffe"}, {"\xf3\xa0\x81\x81", "\\U000e0041"}, /* tag */
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char text[32], escaped[64];
    snprintf(text, sizeof text, "a%sb", cases[i].text);
    snprintf(escaped, sizeof escaped, "a%sb", cases[i].escaped);
    assert_false(printable_is(text));
    expect(text, PRINTABLE_TEXT, escaped);
  }
}

static void the_replacement_character_stays(void **state) {
  (void)state;
  expect("\xef\xbf\xbd", PRINTABLE_TEXT, "\xef\xbf\xbd");
}

static void each_form_has_its_rules(void **state) {
  (void)state;
  expect("\"\\\n\t\r", PRINTABLE_TEXT, "\\\"\\\\\\n\\t\\r");
  expect("\"\\\n\t\r\x1b", PRINTABLE_LINES, "\"\\\n\t\\x0d\\x1b");
  expect("{\"a\":\"\\n\x7f\xe2\x80\xae\xf3\xa0\x81\x81\"}", PRINTABLE_JSON,
         "{\"a\":\"\\n\\u007f\\u202e\\udb40\\udc41\"}");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(letters_of_all_languages_stay),
      cmocka_unit_test(hidden_characters_are_escaped),
      cmocka_unit_test(the_replacement_character_stays),
      cmocka_unit_test(each_form_has_its_rules),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
