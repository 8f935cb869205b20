#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "selection.h"

static struct options options;
static struct selection selection;

static int set_up(void **state) {
  (void)state;
  options_init(&options);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  selection_free(&selection);
  options_free(&options);
  return 0;
}

static int read_words(int argc, char **argv) {
  struct option_problem problem;
  assert_int_equal(options_from_arguments(&options, argc, argv, COMMAND_JOBS, true, &problem), argc);
  return selection_read(&selection, &options, "retry");
}

#define READ(...)                                                                                                      \
  read_words(sizeof((char *[]){"retry", __VA_ARGS__}) / sizeof(char *), (char *[]){"retry", __VA_ARGS__, NULL})

static void nothing_is_selected_without_options(void **state) {
  (void)state;
  assert_int_equal(READ("--yes"), 0);
  assert_false(selection.any);
  assert_false(selection.all);
  assert_int_equal(selection.states, 0);
  assert_null(selection.pattern);
}

static void several_states_may_be_named(void **state) {
  char text[80];
  (void)state;
  assert_int_equal(READ("--state", "later,failed"), 0);
  assert_true(selection.any);
  assert_int_equal(selection.states, JOB_LATER | JOB_FAILED);
  selection_states(selection.states, text, sizeof text);
  assert_string_equal(text, "{later,failed}");
}

static void an_unknown_state_is_wrong_usage(void **state) {
  (void)state;
  assert_int_equal(READ("--state", "failed,"), -1);
  assert_int_equal(READ("--state", "fail"), -1);
}

static void a_pattern_without_wildcards_is_a_part_of_the_error(void **state) {
  (void)state;
  assert_int_equal(READ("--error", "path C:\\temp"), 0);
  assert_string_equal(selection.pattern, "%path C:\\\\temp%");
}

static void a_pattern_with_wildcards_is_left_alone(void **state) {
  (void)state;
  assert_int_equal(READ("--error", "50_ C:\\%"), 0);
  assert_string_equal(selection.pattern, "50_ C:\\%");
}

static void meta_is_a_key_and_a_value(void **state) {
  (void)state;
  assert_int_equal(READ("--meta", "query=a=b"), 0);
  assert_string_equal(selection.meta_key, "query");
  assert_string_equal(selection.meta_value, "a=b");
  selection_free(&selection);
  assert_int_equal(READ("--meta", "query"), -1);
  assert_int_equal(READ("--meta", "=b"), -1);
}

static void the_description_can_be_pasted_into_a_shell(void **state) {
  (void)state;
  assert_int_equal(READ("--error", "isn't there", "--queue", "mail", "--limit", "5", "--all"), 0);
  char *text = selection_describe(&selection);
  assert_string_equal(text, "--queue mail --error 'isn'\\''t there' --limit 5");
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(nothing_is_selected_without_options, set_up, tear_down),
      cmocka_unit_test_setup_teardown(several_states_may_be_named, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_unknown_state_is_wrong_usage, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_pattern_without_wildcards_is_a_part_of_the_error, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_pattern_with_wildcards_is_left_alone, set_up, tear_down),
      cmocka_unit_test_setup_teardown(meta_is_a_key_and_a_value, set_up, tear_down),
      cmocka_unit_test_setup_teardown(the_description_can_be_pasted_into_a_shell, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
