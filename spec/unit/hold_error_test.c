#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fake_clock.h"
#include "hold_error.h"
#include "log.h"

/* ── the log ── */

static int lines;

void log_setup(enum log_level level, enum log_format format) {
  (void)level, (void)format;
}

int log_wants(enum log_level level) {
  (void)level;
  return 1;
}

void log_write(enum log_level level, const char *message, const struct log_field *fields, size_t count) {
  (void)message, (void)fields, (void)count;
  assert_int_equal(level, LOG_WARN);
  lines++;
}

struct log_field log_text_field(const char *key, const char *text) {
  return (struct log_field){.key = text ? key : NULL, .text = text, .length = text ? strlen(text) : 0};
}

/* ── results of statements that the database refuses ── */

struct refusal {
  const char *sqlstate, *message, *context;
};

char *PQresultErrorField(const PGresult *result, int code) {
  const struct refusal *refusal = (const void *)result;
  return (char *)(uintptr_t)(code == PG_DIAG_SQLSTATE  ? refusal->sqlstate
                             : code == PG_DIAG_CONTEXT ? refusal->context
                                                       : refusal->message);
}

char *PQresultErrorMessage(const PGresult *result) {
  (void)result;
  return (char *)(uintptr_t) "no message of the server";
}

static void note(struct hold_error *error, const char *sqlstate, const char *message) {
  hold_error_note(error, (const void *)&(struct refusal){sqlstate, message, NULL});
}

/* ── the hold ── */

static uv_loop_t loop;
static struct hold_error error;
static int waits_over;

void hold_error_wait_over(void *hold) {
  assert_ptr_equal(hold, &waits_over);
  waits_over++;
}

static void on_closed(uv_handle_t *handle) {
  assert_ptr_equal(handle->data, &waits_over);
}

static int set_up(void **state) {
  (void)state;
  fake_clock_reset();
  uv_loop_init(&loop);
  lines = waits_over = 0;
  error = (struct hold_error){0};
  hold_error_init(&error, &loop, &waits_over);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  hold_error_close(&error, on_closed);
  uv_run(&loop, UV_RUN_DEFAULT);
  return uv_loop_close(&loop);
}

static void pass_ms(int64_t ms) {
  fake_clock_advance(ms * 1000);
  uv_run(&loop, UV_RUN_NOWAIT);
}

/* An act has failed with this message: expects the hold to wait for this long. */
static void expect_wait(const char *message, int64_t ms) {
  waits_over = 0;
  note(&error, "53100", message);
  uv_update_time(&loop);
  hold_error_begin(&error, "hold 1a", true);
  assert_true(hold_error_is_waiting(&error));
  pass_ms(ms - 1);
  assert_int_equal(waits_over, 0);
  pass_ms(1);
  assert_int_equal(waits_over, 1);
  assert_false(hold_error_is_waiting(&error));
}

static void the_waits_grow_from_100_ms_to_10_s_until_an_act_succeeds(void **state) {
  (void)state;
  static const int waits_ms[] = {100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};
  for (size_t i = 0; i < sizeof waits_ms / sizeof waits_ms[0]; i++)
    expect_wait("disk full", waits_ms[i]);
  hold_error_reset(&error);
  expect_wait("disk full", 100);
}

static void an_error_is_logged_once_until_it_changes_or_an_act_succeeds(void **state) {
  (void)state;
  expect_wait("disk full", 100);
  expect_wait("disk full", 200);
  assert_int_equal(lines, 1);
  expect_wait("read-only", 400);
  assert_int_equal(lines, 2);
  expect_wait("disk full", 800);
  assert_int_equal(lines, 3);
  hold_error_reset(&error);
  expect_wait("disk full", 100);
  assert_int_equal(lines, 4);
}

static void the_first_error_of_an_act_counts(void **state) {
  (void)state;
  assert_false(hold_error_is_noted(&error));
  note(&error, "23505", "duplicate");
  note(&error, "25P02", "aborted");
  assert_true(hold_error_is_noted(&error));
  assert_string_equal(hold_error_message(&error), "duplicate");
  assert_true(hold_error_is_content(&error));
  hold_error_begin(&error, "hold 1a", false);
  assert_false(hold_error_is_noted(&error));
  note(&error, "25P02", "aborted");
  assert_string_equal(hold_error_message(&error), "aborted");
}

static void an_error_that_is_forgotten_is_not_noted(void **state) {
  (void)state;
  note(&error, "55P03", "locked");
  hold_error_forget(&error);
  assert_false(hold_error_is_noted(&error));
}

static void an_error_without_a_wait_is_only_logged(void **state) {
  (void)state;
  note(&error, "57P01", "shutting down");
  hold_error_begin(&error, "hold 1a", false);
  assert_int_equal(lines, 1);
  assert_false(hold_error_is_waiting(&error));
  pass_ms(20000);
  assert_int_equal(waits_over, 0);
}

static void an_error_without_a_message_field_has_the_message_of_libpq(void **state) {
  (void)state;
  note(&error, NULL, NULL);
  assert_string_equal(hold_error_message(&error), "no message of the server");
  assert_true(hold_error_is_of_session(&error));
  assert_false(hold_error_is_content(&error));
}

static void a_message_that_is_too_long_is_cut(void **state) {
  (void)state;
  static char text[3000];
  memset(text, 'x', sizeof text - 1);
  note(&error, "22001", text);
  assert_int_equal(strlen(hold_error_message(&error)), sizeof error.message - 1);
  hold_error_begin(&error, "hold 1a", false);
  note(&error, "22001", text);
  hold_error_begin(&error, "hold 1a", false);
  assert_int_equal(lines, 1);
}

static void the_sqlstate_tells_whose_fault_it_is(void **state) {
  (void)state;
  static const struct {
    const char *sqlstate;
    bool content, session;
  } cases[] = {
      {"22021", true, false},  /* a byte that the encoding has not */
      {"23514", true, false},  /* a check */
      {"P0001", true, false},  /* a trigger raised it */
      {"25006", false, true},  /* a standby */
      {"57P01", false, true},  /* a shutdown */
      {"08006", false, true},  /* a connection that broke */
      {"26000", false, true},  /* a prepared statement that is gone */
      {"0A000", false, true},  /* a plan whose result has got other types */
      {"42703", false, true},  /* a column that is gone */
      {"42P01", false, true},  /* a table that is gone */
      {"53100", false, false}, /* the disk is full: neither's */
      {"57014", false, false}, /* cancelled */
      {"25P02", false, false}, /* what follows another error */
      {"42501", false, false}, /* no permission */
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    note(&error, cases[i].sqlstate, "refused");
    print_message("%s\n", cases[i].sqlstate);
    assert_int_equal(hold_error_is_content(&error), cases[i].content);
    assert_int_equal(hold_error_is_of_session(&error), cases[i].session);
    hold_error_forget(&error);
  }
}

/* The same errors, raised by the function of a trigger. */
static void an_error_of_a_trigger_concerns_a_row_and_one_that_passes_does_when_it_does_not_pass(void **state) {
  (void)state;
  static const char *const at_once[] = {"42501", "53100", "42P01", "08001", "26000", "XX000"};
  for (size_t i = 0; i < sizeof at_once / sizeof at_once[0]; i++) {
    hold_error_note(&error, (const void *)&(struct refusal){at_once[i], "no", "PL/pgSQL function keep()"});
    assert_true(hold_error_is_of_row(&error));
    assert_false(hold_error_is_of_session(&error));
    hold_error_forget(&error);
  }
  for (int i = 0; i <= 3; i++) {
    hold_error_note(&error, (const void *)&(struct refusal){"40001", "no", "PL/pgSQL function keep()"});
    assert_int_equal(hold_error_is_of_row(&error), i == 3);
    hold_error_begin(&error, "hold 1a", false);
  }
  hold_error_note(&error, (const void *)&(struct refusal){"57P01", "shutting down", "PL/pgSQL function keep()"});
  assert_true(hold_error_is_of_session(&error));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(the_waits_grow_from_100_ms_to_10_s_until_an_act_succeeds),
      TEST(an_error_is_logged_once_until_it_changes_or_an_act_succeeds),
      TEST(the_first_error_of_an_act_counts),
      TEST(an_error_that_is_forgotten_is_not_noted),
      TEST(an_error_without_a_wait_is_only_logged),
      TEST(an_error_without_a_message_field_has_the_message_of_libpq),
      TEST(a_message_that_is_too_long_is_cut),
      TEST(the_sqlstate_tells_whose_fault_it_is),
      TEST(an_error_of_a_trigger_concerns_a_row_and_one_that_passes_does_when_it_does_not_pass),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
