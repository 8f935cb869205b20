#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "options.h"

static struct option_problem problem;

static int set_up(void **state) {
  static struct options options;
  options_init(&options);
  problem.message[0] = '\0';
  *state = &options;
  return 0;
}

static int tear_down(void **state) {
  options_free(*state);
  unsetenv("PGQ_POLL_INTERVAL");
  unsetenv("PGQ_DRAIN");
  return 0;
}

static int parse(struct options *options, bool mixed, const char *line) {
  static char words[256];
  static char *argv[16];
  int argc = 0;
  strcpy(words, line);
  for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
    argv[argc++] = word;
  argv[argc] = NULL;
  return options_from_arguments(options, argc, argv, COMMAND_WORKER, mixed, &problem);
}

static void the_defaults_are_those_of_the_manual(void **state) {
  const struct options *options = *state;
  assert_int_equal(options->poll_interval_ms, 10000);
  assert_int_equal(options->grace_ms, 30000);
  assert_int_equal(options->executors, 0);
  assert_int_equal(options->log_level, LOG_INFO);
  assert_int_equal(options->log_format, LOG_TEXT);
  assert_false(options->preserve_completed);
  assert_null(options->db);
}

static void flags_are_read_up_to_the_script(void **state) {
  struct options *options = *state;
  assert_int_equal(parse(options, false, "pgq-lua --poll-interval 250ms --drain worker.lua --executors 3"), 4);
  assert_int_equal(options->poll_interval_ms, 250);
  assert_true(options->drain);
  assert_int_equal(options->executors, 0); /* that one is the script's own argument */
}

static void a_command_takes_options_anywhere(void **state) {
  struct options *options = *state;
  assert_int_equal(parse(options, true, "enqueue mail --delay 1m data --after now"), 5);
  assert_int_equal(options->delay_ms, 60000);
  assert_string_equal(options->after, "now");
}

static void seconds_and_durations_are_both_read(void **state) {
  struct options *options = *state;
  assert_true(parse(options, false, "pgq-lua --poll-interval 1.5") > 0);
  assert_int_equal(options->poll_interval_ms, 1500);
  assert_true(parse(options, false, "pgq-lua --poll-interval 1m30s") > 0);
  assert_int_equal(options->poll_interval_ms, 90000);
}

static void what_cannot_be_read_is_named(void **state) {
  struct options *options = *state;
  static const struct {
    const char *line, *says;
  } cases[] = {
      {"pgq-lua --nonsense", "unknown option '--nonsense'"},
      {"pgq-lua --poll-interval", "'--poll-interval' needs a value"},
      {"pgq-lua --poll-interval soon", "--poll-interval: 'soon'"},
      {"pgq-lua --poll-interval -1s", "negative"},
      {"pgq-lua --poll-interval 0", "is not between 1ms and"},
      {"pgq-lua --executors two", "--executors: 'two' is not a whole number"},
      {"pgq-lua --executors 100000", "is not between 0 and 1024"},
      {"pgq-lua --max-memory 5M", "is less than 32M; 0 is no limit"},
      {"pgq-lua --log-format xml", "is not one of: text json"},
      {"pgq-lua --pooler pgbouncer", "--pooler: 'pgbouncer' is not one of: auto none session transaction"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    assert_int_equal(parse(options, false, cases[i].line), -1);
    if (!strstr(problem.message, cases[i].says))
      fail_msg("\"%s\" gave \"%s\"", cases[i].line, problem.message);
  }
}

static void a_flag_wins_over_the_environment_and_that_over_the_script(void **state) {
  struct options *options = *state;
  assert_int_equal(options_from_script(options, "poll_interval", "3", &problem), 0);
  assert_int_equal(options->poll_interval_ms, 3000);
  setenv("PGQ_POLL_INTERVAL", "2s", 1);
  assert_int_equal(options_from_environment(options, &problem), 0);
  assert_int_equal(options->poll_interval_ms, 2000);
  assert_int_equal(options_from_script(options, "poll_interval", "3", &problem), 0);
  assert_int_equal(options->poll_interval_ms, 2000);
  assert_true(parse(options, false, "pgq-lua --poll-interval 1s") > 0);
  assert_int_equal(options_from_environment(options, &problem), 0);
  assert_int_equal(options->poll_interval_ms, 1000);
  assert_true(options_forced(options, "poll-interval"));
  assert_false(options_forced(options, "grace"));
}

static void the_environment_can_switch_a_flag_off(void **state) {
  struct options *options = *state;
  setenv("PGQ_DRAIN", "no", 1);
  assert_int_equal(options_from_environment(options, &problem), 0);
  assert_false(options->drain);
  assert_true(options_forced(options, "drain"));
  setenv("PGQ_DRAIN", "perhaps", 1);
  assert_int_equal(options_from_environment(options, &problem), -1);
  assert_non_null(strstr(problem.message, "PGQ_DRAIN: 'perhaps'"));
}

static void the_script_sets_only_what_it_may(void **state) {
  struct options *options = *state;
  assert_int_equal(options_from_script(options, "dev", "true", &problem), -1);
  assert_non_null(
      strstr(problem.message, "there is no setting 'dev'; the settings are: db executors concurrency pool "));
  assert_int_equal(options_from_script(NULL, "grace", "later", &problem), -1);
  assert_int_equal(options_from_script(NULL, "grace", "1m", &problem), 0);
  assert_int_equal(options_from_script(NULL, "db", "dbname=x", &problem), 0);
}

static void an_option_of_another_command_is_refused(void **state) {
  struct options *options = *state;
  assert_true(parse(options, false, "pgq-lua --delay 1s worker.lua") > 0);
  assert_int_equal(options_check_command(options, COMMAND_WORKER, &problem), -1);
  assert_non_null(strstr(problem.message, "'--delay' is for pgq-lua enqueue only"));
  assert_int_equal(options_check_command(options, COMMAND_ENQUEUE, &problem), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(the_defaults_are_those_of_the_manual),
      TEST(flags_are_read_up_to_the_script),
      TEST(a_command_takes_options_anywhere),
      TEST(seconds_and_durations_are_both_read),
      TEST(what_cannot_be_read_is_named),
      TEST(a_flag_wins_over_the_environment_and_that_over_the_script),
      TEST(the_environment_can_switch_a_flag_off),
      TEST(the_script_sets_only_what_it_may),
      TEST(an_option_of_another_command_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
