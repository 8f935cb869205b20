#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pipeline.h"

/* ── libpq's functions, which return the results that the test has set ── */

struct pg_result {
  ExecStatusType status;
};

enum { RESULTS_MAX = 32 };

static PGresult *coming[RESULTS_MAX]; /* NULL ends the results of a statement */
static int coming_count, taken;
static struct pg_result tuples = {PGRES_TUPLES_OK}, failure = {PGRES_FATAL_ERROR}, skipped = {PGRES_PIPELINE_ABORTED},
                        synced = {PGRES_PIPELINE_SYNC};

int PQsetnonblocking(PGconn *pg, int nonblocking) {
  (void)pg, (void)nonblocking;
  return 0;
}

int PQenterPipelineMode(PGconn *pg) {
  (void)pg;
  return 1;
}

int PQpipelineSync(PGconn *pg) {
  (void)pg;
  return 1;
}

int PQsendQueryParams(PGconn *pg, const char *text, int count, const Oid *types, const char *const *values,
                      const int *lengths, const int *formats, int format) {
  (void)pg, (void)text, (void)count, (void)types, (void)values, (void)lengths, (void)formats, (void)format;
  return 1;
}

int PQisBusy(PGconn *pg) {
  (void)pg;
  return taken == coming_count;
}

PGresult *PQgetResult(PGconn *pg) {
  (void)pg;
  return coming[taken++];
}

ExecStatusType PQresultStatus(const PGresult *result) {
  return result->status;
}

void PQclear(PGresult *result) {
  (void)result;
}

static void come_in(PGresult *result) {
  assert_true(coming_count < RESULTS_MAX);
  coming[coming_count++] = result;
}

/* ── the tests ── */

static struct pipeline pipeline;

static int set_up(void **state) {
  (void)state;
  coming_count = taken = 0;
  pipeline_begin(&pipeline, NULL);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  pipeline_free(&pipeline);
  return 0;
}

/* Two acts: BEGIN and a claim; a commit alone. */
static void send_two_acts(void) {
  pipeline_send(&pipeline, STATEMENT_BEGIN, NULL);
  pipeline_send(&pipeline, STATEMENT_CLAIM, NULL);
  pipeline_sync(&pipeline);
  pipeline_send(&pipeline, STATEMENT_COMMIT, NULL);
  pipeline_sync(&pipeline);
}

static void expect_result(enum statement expected, PGresult *expected_result) {
  enum statement statement;
  PGresult *result;
  assert_int_equal(pipeline_next(&pipeline, &statement, &result), PIPELINE_RESULT);
  assert_int_equal(statement, expected);
  assert_ptr_equal(result, expected_result);
}

static void expect_answer(enum pipeline_answer expected) {
  enum statement statement;
  PGresult *result;
  assert_int_equal(pipeline_next(&pipeline, &statement, &result), expected);
}

static void results_belong_to_the_statements_in_their_order(void **state) {
  (void)state;
  send_two_acts();
  PGresult *const results[] = {&tuples, NULL, &tuples, NULL, &synced, &tuples, NULL, &synced};
  for (size_t i = 0; i < sizeof results / sizeof results[0]; i++)
    come_in(results[i]);
  expect_result(STATEMENT_BEGIN, &tuples);
  expect_result(STATEMENT_CLAIM, &tuples);
  expect_answer(PIPELINE_SYNCED);
  expect_result(STATEMENT_COMMIT, &tuples);
  expect_answer(PIPELINE_SYNCED);
  expect_answer(PIPELINE_NOTHING);
}

static void a_result_may_come_in_parts(void **state) {
  (void)state;
  send_two_acts();
  expect_answer(PIPELINE_NOTHING);
  come_in(&tuples);
  expect_result(STATEMENT_BEGIN, &tuples);
  expect_answer(PIPELINE_NOTHING);
  come_in(NULL);
  expect_answer(PIPELINE_NOTHING);
  come_in(&tuples);
  expect_result(STATEMENT_CLAIM, &tuples);
}

/* libpq leaves out the NULL behind an error when the next statement was sent before it was asked for. */
static void the_null_behind_an_error_may_be_missing(void **state) {
  (void)state;
  send_two_acts();
  PGresult *const results[] = {&failure, &skipped, NULL, &synced, &tuples};
  for (size_t i = 0; i < sizeof results / sizeof results[0]; i++)
    come_in(results[i]);
  expect_result(STATEMENT_BEGIN, &failure);
  expect_result(STATEMENT_CLAIM, &skipped);
  expect_answer(PIPELINE_SYNCED);
  expect_result(STATEMENT_COMMIT, &tuples);
}

/* The error of a commit that the sync makes comes as a second result, when the sync is expected. */
static void an_error_before_the_sync_belongs_to_the_last_statement(void **state) {
  (void)state;
  send_two_acts();
  PGresult *const results[] = {&tuples, NULL, &tuples, NULL, &failure, NULL, &synced, &tuples};
  for (size_t i = 0; i < sizeof results / sizeof results[0]; i++)
    come_in(results[i]);
  expect_result(STATEMENT_BEGIN, &tuples);
  expect_result(STATEMENT_CLAIM, &tuples);
  expect_result(STATEMENT_CLAIM, &failure);
  expect_answer(PIPELINE_SYNCED);
  expect_result(STATEMENT_COMMIT, &tuples);
}

static void nothing_is_expected_after_the_session_has_ended(void **state) {
  (void)state;
  send_two_acts();
  come_in(&tuples);
  pipeline_clear(&pipeline);
  expect_answer(PIPELINE_NOTHING);
}

static void a_skipped_statement_has_failed_but_is_not_the_cause(void **state) {
  (void)state;
  assert_true(result_failed(&failure) && result_is_cause(&failure));
  assert_true(result_failed(&skipped) && !result_is_cause(&skipped));
  assert_false(result_failed(&tuples));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(results_belong_to_the_statements_in_their_order),
      TEST(a_result_may_come_in_parts),
      TEST(the_null_behind_an_error_may_be_missing),
      TEST(an_error_before_the_sync_belongs_to_the_last_statement),
      TEST(nothing_is_expected_after_the_session_has_ended),
      TEST(a_skipped_statement_has_failed_but_is_not_the_cause),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
