#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <endian.h>

#include "doorbell.h"
#include "log.h"

enum { TABLE = 16384, FIRST_BUCKET = 7, SECOND_BUCKET = 200 };

/* ── the connection and the wake-up logic, which only record the calls ── */

static enum statement sent[16];
static int sent_count, session_failures, rung, raised, raised_clear;
static const char *server_message;

void connection_send(struct connection *connection, enum statement statement, const struct parameters *parameters) {
  (void)connection, (void)parameters;
  sent[sent_count++] = statement;
}

void connection_sync(struct connection *connection) {
  (void)connection;
}

bool connection_is_up(const struct connection *connection) {
  (void)connection;
  return true;
}

void connection_fail(struct connection *connection, const char *reason) {
  (void)connection, (void)reason;
  session_failures++;
}

void wakeup_raised(struct wakeup *wakeup, bool clear) {
  (void)wakeup;
  raised++;
  raised_clear += clear;
}

void wakeup_rung(struct wakeup *wakeup) {
  (void)wakeup;
  rung++;
}

/* An error without the server's message is libpq's own: the connection is lost. */
char *PQresultErrorField(const PGresult *result, int field) {
  (void)result, (void)field;
  return (char *)server_message;
}

/* ── results ── */

static PGresult *new_result(ExecStatusType status, int columns) {
  PGresult *result = PQmakeEmptyPGresult(NULL, status);
  PGresAttDesc attributes[3] = {{.name = "a", .format = 1}, {.name = "b", .format = 1}, {.name = "c", .format = 1}};
  PQsetResultAttrs(result, columns, attributes);
  return result;
}

static void set_bool(PGresult *result, int row, int column, bool value) {
  char byte = value;
  PQsetvalue(result, row, column, &byte, 1);
}

static void set_i32(PGresult *result, int row, int column, uint32_t value) {
  value = htobe32(value);
  PQsetvalue(result, row, column, (char *)&value, sizeof value);
}

static void set_i64(PGresult *result, int row, int column, uint64_t value) {
  value = htobe64(value);
  PQsetvalue(result, row, column, (char *)&value, sizeof value);
}

/* ── the doorbell ── */

static uv_loop_t loop;
static struct queue_list queues;
static struct doorbell *bell;

static void answer(enum statement statement, PGresult *result) {
  assert_true(doorbell_result(bell, statement, result));
  PQclear(result);
}

static void answer_keys(bool has_trigger) {
  PGresult *result = new_result(PGRES_TUPLES_OK, 3);
  for (int row = 0; row < 2; row++) {
    set_i64(result, row, DOORBELL_KEYS_TABLE, TABLE);
    set_bool(result, row, DOORBELL_KEYS_TRIGGER, has_trigger);
    set_i32(result, row, DOORBELL_KEYS_BUCKET, row == 0 ? FIRST_BUCKET : SECOND_BUCKET);
  }
  answer(STATEMENT_DOORBELL_KEYS, result);
}

static void answer_raise(bool first, bool second) {
  PGresult *result = new_result(PGRES_TUPLES_OK, 2);
  set_i32(result, 0, 0, FIRST_BUCKET);
  set_bool(result, 0, 1, first);
  set_i32(result, 1, 0, SECOND_BUCKET);
  set_bool(result, 1, 1, second);
  answer(STATEMENT_DOORBELL_RAISE_FLAGS, result);
}

static void answer_probe(bool clear) {
  PGresult *result = new_result(PGRES_TUPLES_OK, 1);
  set_bool(result, 0, 0, clear);
  answer(STATEMENT_DOORBELL_CHECK_ENQUEUERS, result);
}

static void answer_failure(enum statement statement, const char *message) {
  server_message = message;
  answer(statement, new_result(PGRES_FATAL_ERROR, 0));
  server_message = NULL;
}

static void open_bell(bool has_trigger) {
  doorbell_open(bell);
  answer(STATEMENT_DOORBELL_LISTEN, new_result(PGRES_COMMAND_OK, 0));
  answer_keys(has_trigger);
  sent_count = 0;
}

static int set_up(void **state) {
  (void)state;
  log_setup(LOG_ERROR, LOG_TEXT);
  uv_loop_init(&loop);
  queue_find(&queues, "first");
  queue_find(&queues, "second");
  sent_count = session_failures = rung = raised = raised_clear = 0;
  bell = doorbell_new(&loop, NULL, &queues, NULL);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  doorbell_free(bell);
  uv_run(&loop, UV_RUN_DEFAULT);
  queue_list_free(&queues);
  return uv_loop_close(&loop);
}

static void flags_that_are_up_are_reported_with_the_probe(void **state) {
  (void)state;
  open_bell(true);
  assert_true(doorbell_flag(bell, true));
  assert_int_equal(sent_count, 2);
  assert_int_equal(sent[0], STATEMENT_DOORBELL_RAISE_FLAGS);
  assert_int_equal(sent[1], STATEMENT_DOORBELL_CHECK_ENQUEUERS);
  answer_raise(true, true);
  assert_int_equal(raised, 0);
  answer_probe(false);
  assert_int_equal(raised, 1);
  assert_int_equal(raised_clear, 0);
  doorbell_probe(bell);
  answer_probe(true);
  assert_int_equal(raised_clear, 1);
}

static void a_flag_that_a_session_has_locked_is_tried_again(void **state) {
  (void)state;
  open_bell(true);
  doorbell_flag(bell, true);
  answer_raise(true, false);
  answer_probe(true);
  assert_int_equal(raised, 0);
  sent_count = 0;
  uv_run(&loop, UV_RUN_DEFAULT); /* until its timer has fired */
  assert_int_equal(sent_count, 2);
  assert_int_equal(sent[0], STATEMENT_DOORBELL_RAISE_FLAGS);
  answer_raise(true, true);
  answer_probe(true);
  assert_int_equal(raised_clear, 1);
}

static void flags_are_lowered_when_the_answers_are_there(void **state) {
  (void)state;
  open_bell(true);
  doorbell_flag(bell, true);
  doorbell_flag(bell, false);
  assert_int_equal(sent_count, 2);
  answer_raise(true, true);
  answer_probe(true);
  assert_int_equal(raised, 0);
  assert_int_equal(sent_count, 3);
  assert_int_equal(sent[2], STATEMENT_DOORBELL_LOWER_FLAGS);
}

static void only_rings_for_its_table_and_buckets_wake(void **state) {
  (void)state;
  doorbell_notified(bell, "16384:7"); /* not open yet */
  open_bell(true);
  doorbell_notified(bell, "16385:7");
  doorbell_notified(bell, "16384:8");
  doorbell_notified(bell, "16384");
  doorbell_notified(bell, "nonsense");
  assert_int_equal(rung, 0);
  doorbell_notified(bell, "16384:7");
  doorbell_notified(bell, "16384:200");
  assert_int_equal(rung, 2);
}

static void without_the_trigger_no_flag_goes_up(void **state) {
  (void)state;
  open_bell(false);
  assert_false(doorbell_flag(bell, true));
  doorbell_probe(bell);
  assert_int_equal(sent_count, 0);
}

static void a_wakeup_that_waits_for_flags_is_called_when_the_session_is_lost(void **state) {
  (void)state;
  open_bell(true);
  doorbell_flag(bell, true);
  doorbell_down(bell);
  assert_int_equal(raised_clear, 1);
  assert_false(doorbell_flag(bell, true));
}

static void a_failure_lowers_all_flags_and_opens_the_doorbell_again(void **state) {
  (void)state;
  open_bell(true);
  doorbell_flag(bell, true);
  sent_count = 0;
  answer_failure(STATEMENT_DOORBELL_RAISE_FLAGS, "canceling statement due to user request");
  assert_int_equal(sent_count, 1);
  assert_int_equal(sent[0], STATEMENT_DOORBELL_LOWER_FLAGS);
  assert_int_equal(raised_clear, 1);
  answer_probe(true);
  answer(STATEMENT_DOORBELL_LOWER_FLAGS, new_result(PGRES_TUPLES_OK, 1));
  sent_count = 0;
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(sent_count, 2);
  assert_int_equal(sent[0], STATEMENT_DOORBELL_LISTEN);
  assert_int_equal(session_failures, 0);
}

static void flags_that_cannot_be_lowered_cost_the_session(void **state) {
  (void)state;
  open_bell(true);
  doorbell_flag(bell, true);
  answer_raise(true, true);
  answer_probe(true);
  doorbell_flag(bell, false);
  answer_failure(STATEMENT_DOORBELL_LOWER_FLAGS, "canceling statement due to user request");
  assert_int_equal(session_failures, 1);
  doorbell_down(bell);
}

static void other_statements_are_left_to_the_control_session(void **state) {
  (void)state;
  PGresult *result = new_result(PGRES_COMMAND_OK, 0);
  assert_false(doorbell_result(bell, STATEMENT_WORKER_HEARTBEAT, result));
  PQclear(result);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(flags_that_are_up_are_reported_with_the_probe),
      TEST(a_flag_that_a_session_has_locked_is_tried_again),
      TEST(flags_are_lowered_when_the_answers_are_there),
      TEST(only_rings_for_its_table_and_buckets_wake),
      TEST(without_the_trigger_no_flag_goes_up),
      TEST(a_wakeup_that_waits_for_flags_is_called_when_the_session_is_lost),
      TEST(a_failure_lowers_all_flags_and_opens_the_doorbell_again),
      TEST(flags_that_cannot_be_lowered_cost_the_session),
      TEST(other_statements_are_left_to_the_control_session),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
