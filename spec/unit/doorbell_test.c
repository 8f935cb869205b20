#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <endian.h>

#include "doorbell.h"
#include "log.h"

enum { TABLE = 16384, FIRST_BUCKET = 7, SECOND_BUCKET = 200 };

/* Server processes: of a session that enqueues, of the control session of peer 0. */
enum { CLIENT_PID = 111, PEER_PID = 1000 };

/* ── the connection and the wake-up logic, which only record the calls ── */

static enum statement sent[16];
static int sent_count, session_failures, rung, raised, raised_clear;
static bool shared;
static int64_t last_ring, last_wait_ms, answered;
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

void wakeup_rung_by(struct wakeup *wakeup, int64_t ring, int64_t wait_ms) {
  (void)wakeup;
  rung++;
  last_ring = ring;
  last_wait_ms = wait_ms;
}

void wakeup_answered(struct wakeup *wakeup, int64_t ring) {
  (void)wakeup;
  answered = ring;
}

void wakeup_set_shared(struct wakeup *wakeup, bool is_shared) {
  (void)wakeup;
  shared = is_shared;
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
static const int64_t worker_id = 5;

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

/* Peers with the ids 100, 101 … and the processes PEER_PID, PEER_PID + 1 … */
static void answer_peers(int count) {
  PGresult *result = new_result(PGRES_TUPLES_OK, 2);
  for (int row = 0; row < count; row++) {
    set_i64(result, row, DOORBELL_PEERS_ID, (uint64_t)(100 + row));
    set_i32(result, row, DOORBELL_PEERS_PID, (uint32_t)(PEER_PID + row));
  }
  answer(STATEMENT_DOORBELL_PEERS, result);
}

static void notify(const char *payload) {
  doorbell_notified(bell, payload, CLIENT_PID);
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
  last_ring = last_wait_ms = answered = 0;
  shared = false;
  bell = doorbell_new(&loop, NULL, &worker_id, &queues, NULL);
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
  notify("16384:7"); /* not open yet */
  open_bell(true);
  notify("16385:7");
  notify("16384:8");
  notify("16384");
  notify("nonsense");
  assert_int_equal(rung, 0);
  notify("16384:7");
  notify("16384:200");
  assert_int_equal(rung, 2);
}

static void a_ring_with_a_number_has_it_from_its_transaction_and_its_session(void **state) {
  (void)state;
  open_bell(true);
  notify("16384:7:1234");
  int64_t first = last_ring;
  assert_int_equal(rung, 1);
  assert_int_equal(last_wait_ms, 0);
  notify("16384:200:1234");
  assert_int_equal(last_ring, first);
  notify("16384:7:1235");
  assert_int_not_equal(last_ring, first);
  doorbell_notified(bell, "16384:7:1234", CLIENT_PID + 1);
  assert_int_not_equal(last_ring, first);
  doorbell_notified(bell, "16384:7:122045790683346", CLIENT_PID + 1); /* no number reaches into that of the session */
  assert_int_equal(last_ring >> 40, CLIENT_PID + 1);
}

static void with_many_peers_it_waits_for_most_rings(void **state) {
  (void)state;
  open_bell(true);
  doorbell_ask_peers(bell);
  assert_int_equal(sent_count, 1);
  assert_int_equal(sent[0], STATEMENT_DOORBELL_PEERS);
  answer_peers(39);
  assert_true(shared);
  int waits = 0;
  for (int i = 0; i < 400; i++) {
    char payload[32];
    snprintf(payload, sizeof payload, "16384:7:%d", 1000 + i);
    notify(payload);
    waits += last_wait_ms > 0;
  }
  assert_int_equal(rung, 400);
  assert_in_range(waits, 350, 398);
  doorbell_down(bell);
  assert_false(shared);
}

static void an_answer_counts_only_from_a_peer_and_for_the_table(void **state) {
  (void)state;
  open_bell(true);
  answer_peers(4);
  notify("answered:16384:77");
  doorbell_notified(bell, "answered:16385:77", PEER_PID);
  doorbell_notified(bell, "answered:16384", PEER_PID);
  assert_int_equal(answered, 0);
  doorbell_notified(bell, "answered:16384:77", PEER_PID + 3);
  assert_int_equal(answered, 77);
  doorbell_notified(bell, "answered:16384:78", PEER_PID + 4);
  assert_int_equal(answered, 77);
  assert_int_equal(rung, 0);
}

static void an_answer_is_sent_while_rings_are_heard(void **state) {
  (void)state;
  doorbell_answer(bell, 77);
  assert_int_equal(sent_count, 0);
  open_bell(true);
  doorbell_answer(bell, 77);
  assert_int_equal(sent_count, 1);
  assert_int_equal(sent[0], STATEMENT_DOORBELL_ANSWER);
  doorbell_flag(bell, true); /* not one of the acts: flags go up at once */
  assert_int_equal(sent_count, 3);
}

static void peers_that_cannot_be_asked_are_none(void **state) {
  (void)state;
  open_bell(true);
  answer_peers(39);
  answer_failure(STATEMENT_DOORBELL_PEERS, "canceling statement due to user request");
  assert_false(shared);
  assert_true(doorbell_flag(bell, true));
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
      TEST(a_ring_with_a_number_has_it_from_its_transaction_and_its_session),
      TEST(with_many_peers_it_waits_for_most_rings),
      TEST(an_answer_counts_only_from_a_peer_and_for_the_table),
      TEST(an_answer_is_sent_while_rings_are_heard),
      TEST(peers_that_cannot_be_asked_are_none),
      TEST(without_the_trigger_no_flag_goes_up),
      TEST(a_wakeup_that_waits_for_flags_is_called_when_the_session_is_lost),
      TEST(a_failure_lowers_all_flags_and_opens_the_doorbell_again),
      TEST(flags_that_cannot_be_lowered_cost_the_session),
      TEST(other_statements_are_left_to_the_control_session),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
