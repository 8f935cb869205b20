#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "duration.h"
#include "message.h"
#include "taken.h"

/*
 * The readers of the frames that an executor sends; what the fuzz corpus cannot say is which frames are right.
 * Every test writes a right frame, then one with a single fault.
 */

/* ── READY ── */

/* Where the fields of its one queue are, and the count of settings behind it. */
enum { READY_QUEUE = 4, READY_NAME = READY_QUEUE + 4, READY_PRESERVE = READY_NAME + 4, READY_DISCARD };
enum { READY_TRANSACTIONAL = READY_DISCARD + 1 + 8 + 4, READY_SETTINGS };

static void write_ready(struct buffer *out, int64_t timeout_ms) {
  struct message_queue queue = {.name = "mail",
                                .preserve_completed = CHOICE_YES,
                                .discard_failed = CHOICE_NO,
                                .timeout_ms = timeout_ms,
                                .concurrency = 7,
                                .transactional = true};
  struct message_setting setting = {.name = "lease", .value = "5s"};
  message_put_ready(
      out, &(struct message_ready){.queue_count = 1, .queues = &queue, .setting_count = 1, .settings = &setting});
}

static bool reads_ready(struct buffer *out) {
  struct message_ready ready;
  struct frame frame = take(out);
  bool right = message_get_ready(&frame, &ready);
  if (right) {
    assert_int_equal(ready.queue_count, 1);
    assert_string_equal(ready.queues[0].name, "mail");
    assert_int_equal(ready.queues[0].preserve_completed, CHOICE_YES);
    assert_int_equal(ready.queues[0].discard_failed, CHOICE_NO);
    assert_int_equal(ready.queues[0].concurrency, 7);
    assert_true(ready.queues[0].transactional);
    assert_int_equal(ready.setting_count, 1);
    assert_string_equal(ready.settings[0].name, "lease");
    assert_string_equal(ready.settings[0].value, "5s");
    message_free_ready(&ready);
  }
  buffer_free(out);
  return right;
}

/* Whether it is still read with another byte there. */
static bool reads_ready_with(size_t at, unsigned char byte) {
  struct buffer out = {0};
  write_ready(&out, -1);
  out.bytes[at] = byte;
  return reads_ready(&out);
}

static bool reads_ready_with_count(size_t at, uint32_t count) {
  struct buffer out = {0};
  write_ready(&out, -1);
  patch_u32(&out, at, count);
  return reads_ready(&out);
}

static void a_ready_frame_has_only_choices_that_exist(void **state) {
  (void)state;
  assert_true(reads_ready_with(READY_PRESERVE, CHOICE_YES));
  assert_false(reads_ready_with(READY_PRESERVE, CHOICE_YES + 1));
  assert_false(reads_ready_with(READY_DISCARD, CHOICE_YES + 1));
  assert_false(reads_ready_with(READY_TRANSACTIONAL, 2));
  assert_false(reads_ready_with(READY_NAME + 1, '\0')); /* a NUL would cut the name */
}

static void a_ready_frame_has_counts_that_fit(void **state) {
  (void)state;
  struct buffer out = {0};
  assert_true(reads_ready_with_count(READY_SETTINGS, 1));
  assert_false(reads_ready_with_count(0, 0));
  assert_false(reads_ready_with_count(0, 2));
  assert_false(reads_ready_with_count(0, UINT32_MAX));
  assert_false(reads_ready_with_count(READY_SETTINGS, 0)); /* the setting is left over */
  assert_false(reads_ready_with_count(READY_SETTINGS, 2));
  assert_false(reads_ready_with_count(READY_SETTINGS, UINT32_MAX));
  write_ready(&out, -1);
  out.length--;
  assert_false(reads_ready(&out));
}

static void the_time_limit_of_a_queue_is_a_duration_or_none(void **state) {
  (void)state;
  static const int64_t right[] = {-1, 0, 1, DURATION_MAX_MS}, wrong[] = {INT64_MIN, -2, DURATION_MAX_MS + 1, INT64_MAX};
  struct buffer out = {0};
  for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
    write_ready(&out, right[i]);
    assert_true(reads_ready(&out));
    write_ready(&out, wrong[i]);
    assert_false(reads_ready(&out));
  }
}

/* ── LOG and BROKEN ── */

static bool reads_log(struct buffer *out) {
  struct message_log log;
  struct frame frame = take(out);
  bool right = message_get_log(&frame, &log);
  if (right) {
    assert_int_equal(log.level, LOG_ERROR);
    assert_int_equal(log.length, 3);
    assert_memory_equal(log.text, "a\0b", 3);
  }
  buffer_free(out);
  return right;
}

static void a_line_for_the_log_has_a_level_and_any_bytes(void **state) {
  (void)state;
  struct message_log log = {.level = LOG_ERROR, .text = "a\0b", .length = 3};
  struct buffer out = {0};
  message_put_log(&out, &log);
  assert_true(reads_log(&out));
  message_put_log(&out, &log);
  out.bytes[0] = LOG_ERROR + 1;
  assert_false(reads_log(&out));
  message_put_log(&out, &log);
  put_u8(&out, 0);
  assert_false(reads_log(&out));
  message_put_log(&out, &log);
  out.length--;
  assert_false(reads_log(&out));
}

static void what_broke_a_script_is_any_bytes(void **state) {
  (void)state;
  struct buffer out = {0};
  const char *message;
  size_t length;
  message_put_broken(&out, "a\0b", 3);
  struct frame frame = take(&out);
  assert_true(message_get_broken(&frame, &message, &length));
  assert_int_equal(length, 3);
  assert_memory_equal(message, "a\0b", 3);
  put_u8(&out, 0);
  frame = take(&out);
  assert_false(message_get_broken(&frame, &message, &length));
  out.length -= 2;
  frame = take(&out);
  assert_false(message_get_broken(&frame, &message, &length));
  buffer_free(&out);
}

/* ── OUTCOMES ── */

/* Where its flags are: backoff, discard, waited. */
enum { OUTCOME_FLAGS = 4 + 4 + 1, OUTCOME_FLAG_COUNT = 3 };

static bool reads_outcome_in(struct buffer *out, const struct job_outcome *written) {
  struct job_outcome outcome;
  struct frame frame = take(out);
  bool right = message_get_outcome(&frame, &outcome);
  if (right) {
    assert_int_equal(outcome.batch, written->batch);
    assert_int_equal(outcome.index, written->index);
    assert_int_equal(outcome.outcome, written->outcome);
    assert_int_equal(outcome.backoff, written->backoff);
    assert_int_equal(outcome.discard, written->discard);
    assert_int_equal(outcome.waited, written->waited);
    assert_true(outcome.wait_ms == written->wait_ms);
    assert_true(outcome.duration_us == written->duration_us);
    assert_true(outcome.busy_us == written->busy_us);
    assert_int_equal(outcome.error_length, written->error_length);
    assert_memory_equal(outcome.error, written->error, written->error_length);
    assert_int_equal(outcome.traceback_length, written->traceback_length);
    assert_memory_equal(outcome.traceback, written->traceback, written->traceback_length);
    assert_int_equal(frame_left(&frame), 0);
  }
  buffer_free(out);
  return right;
}

static bool reads_outcome(const struct job_outcome *written) {
  struct buffer out = {0};
  message_put_outcome(&out, written);
  return reads_outcome_in(&out, written);
}

static void an_outcome_is_one_that_an_executor_can_know(void **state) {
  (void)state;
  static const enum outcome right[] = {OUTCOME_COMPLETE, OUTCOME_FAIL, OUTCOME_UNRUN, OUTCOME_SNOOZE, OUTCOME_SETTLED};
  static const enum outcome wrong[] = {OUTCOME_NONE, OUTCOME_LEASE, OUTCOME_DEATH, OUTCOME_DEATH + 1, 255};
  struct job_outcome outcome = {.index = 9, .error = "a\0b", .error_length = 3};
  for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
    outcome.outcome = right[i];
    assert_true(reads_outcome(&outcome));
    outcome.outcome = wrong[i];
    assert_false(reads_outcome(&outcome));
  }
}

static void an_outcome_tells_all_about_its_end(void **state) {
  (void)state;
  struct job_outcome outcome = {.batch = 7, .index = 9, .outcome = OUTCOME_FAIL, .wait_ms = 1500};
  outcome.duration_us = 3;
  outcome.busy_us = 2;
  outcome.error = "a\0b";
  outcome.error_length = 3;
  outcome.traceback = "in c";
  outcome.traceback_length = 4;
  for (int flag = 0; flag < OUTCOME_FLAG_COUNT; flag++) { /* one at a time: none stands in for another */
    outcome.backoff = flag == 0;
    outcome.discard = flag == 1;
    outcome.waited = flag == 2;
    assert_true(reads_outcome(&outcome));
  }
  for (size_t flag = 0; flag < OUTCOME_FLAG_COUNT; flag++) {
    struct buffer out = {0};
    message_put_outcome(&out, &outcome);
    out.bytes[OUTCOME_FLAGS + flag] = 2;
    assert_false(reads_outcome_in(&out, &outcome));
  }
}

static void an_outcome_took_a_time_that_is_a_number_and_was_busy_for_no_longer(void **state) {
  (void)state;
  struct job_outcome outcome = {.outcome = OUTCOME_COMPLETE, .duration_us = (uint64_t)DURATION_MAX_MS * 1000};
  assert_true(reads_outcome(&outcome));
  outcome.busy_us = outcome.duration_us;
  assert_true(reads_outcome(&outcome));
  outcome.busy_us++;
  assert_false(reads_outcome(&outcome));
  outcome.busy_us = 0;
  outcome.duration_us = INT64_MAX; /* twice that is no number */
  assert_false(reads_outcome(&outcome));
}

static void a_wait_is_a_duration_or_none_and_a_snooze_has_one(void **state) {
  (void)state;
  struct job_outcome outcome = {.outcome = OUTCOME_FAIL, .wait_ms = -1};
  assert_true(reads_outcome(&outcome));
  outcome.outcome = OUTCOME_SNOOZE;
  assert_false(reads_outcome(&outcome));
  outcome.wait_ms = 0;
  assert_true(reads_outcome(&outcome));
  outcome.wait_ms = DURATION_MAX_MS;
  assert_true(reads_outcome(&outcome));
  outcome.wait_ms++;
  assert_false(reads_outcome(&outcome));
  outcome.wait_ms = -2;
  assert_false(reads_outcome(&outcome));
  outcome.outcome = OUTCOME_FAIL;
  assert_false(reads_outcome(&outcome));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_ready_frame_has_only_choices_that_exist),
      cmocka_unit_test(a_ready_frame_has_counts_that_fit),
      cmocka_unit_test(the_time_limit_of_a_queue_is_a_duration_or_none),
      cmocka_unit_test(a_line_for_the_log_has_a_level_and_any_bytes),
      cmocka_unit_test(what_broke_a_script_is_any_bytes),
      cmocka_unit_test(an_outcome_is_one_that_an_executor_can_know),
      cmocka_unit_test(an_outcome_tells_all_about_its_end),
      cmocka_unit_test(an_outcome_took_a_time_that_is_a_number_and_was_busy_for_no_longer),
      cmocka_unit_test(a_wait_is_a_duration_or_none_and_a_snooze_has_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
