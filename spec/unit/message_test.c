#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "duration.h"
#include "message.h"

/*
 * The readers of the frames' fields; what the fuzz corpus cannot say is which frames are right. Every test writes a
 * right frame, then one with a single fault.
 */

/* The fields in `out`, as a frame that was found in a socket; memory of their own shows reads beyond the end. */
static struct frame take(struct buffer *out) {
  struct buffer exact = {.length = out->length, .capacity = out->length ? out->length : 1};
  exact.bytes = malloc(exact.capacity);
  if (out->length > 0)
    memcpy(exact.bytes, out->bytes, out->length);
  buffer_free(out);
  *out = exact;
  return (struct frame){.at = out->bytes, .end = out->bytes + out->length};
}

static void patch_u32(struct buffer *out, size_t at, uint32_t value) {
  memcpy(out->bytes + at, &value, sizeof value);
}

/* ── CONFIGURE ── */

static void write_configure(struct buffer *out, uint32_t script) {
  char *argv[] = {"pgq-lua", "--drain", "worker.lua"};
  message_put_configure(out,
                        &(struct message_configure){
                            .conninfo = "host=x", .most_memory = 1 << 20, .script = script, .argc = 3, .argv = argv});
}

static bool reads_configure(struct buffer *out) {
  struct message_configure configure;
  struct frame frame = take(out);
  bool right = message_get_configure(&frame, &configure);
  if (right) {
    assert_string_equal(configure.conninfo, "host=x");
    assert_int_equal(configure.most_memory, 1 << 20);
    assert_string_equal(configure.argv[configure.script], "worker.lua");
    message_free_configure(&configure);
  }
  buffer_free(out);
  return right;
}

static void a_configure_frame_names_a_script_among_its_arguments(void **state) {
  (void)state;
  struct buffer out = {0};
  write_configure(&out, 2);
  assert_true(reads_configure(&out));
  write_configure(&out, 3);
  assert_false(reads_configure(&out));
  write_configure(&out, 2);
  patch_u32(&out, 4 + 6 + 8 + 4, 4); /* one argument more than there are */
  assert_false(reads_configure(&out));
  write_configure(&out, 2);
  patch_u32(&out, 4 + 6 + 8 + 4, UINT32_MAX);
  assert_false(reads_configure(&out));
  write_configure(&out, 2);
  out.bytes[4 + 2] = '\0'; /* a NUL in the connection string would cut it */
  assert_false(reads_configure(&out));
  write_configure(&out, 2);
  put_u8(&out, 0);
  assert_false(reads_configure(&out));
}

/* ── JOBS ── */

enum { JOBS_HEAD = 8 };

static void write_jobs(struct buffer *out, uint32_t count, uint32_t first, uint32_t second) {
  message_put_jobs(out, &(struct message_jobs){.batch = 7, .count = count});
  message_put_job(out, &(struct message_job){.position = first, .id = INT64_MIN, .data = "a\0b", .data_length = 3});
  message_put_job(out, &(struct message_job){.index = 1, .position = second, .id = 2, .created_at = 0.5});
}

static bool reads_jobs(struct buffer *out) {
  struct message_jobs jobs;
  struct message_job job;
  struct frame frame = take(out);
  bool right = message_get_jobs(&frame, &jobs);
  if (right) {
    assert_int_equal(jobs.batch, 7);
    assert_int_equal(jobs.count, 2);
    assert_true(message_get_job(&frame, &job));
    assert_true(job.id == INT64_MIN);
    assert_memory_equal(job.data, "a\0b", 3);
    assert_true(message_get_job(&frame, &job));
    assert_int_equal(job.index, 1);
    assert_true(job.created_at == 0.5);
    assert_true(frame_end_ok(&frame));
  }
  buffer_free(out);
  return right;
}

static void a_frame_of_jobs_holds_as_many_as_it_says_in_the_order_of_their_positions(void **state) {
  (void)state;
  struct buffer out = {0};
  const uint32_t wrong_counts[] = {0, 1, 3, UINT32_MAX};
  write_jobs(&out, 2, 1, 2);
  assert_true(reads_jobs(&out));
  for (size_t i = 0; i < sizeof wrong_counts / sizeof wrong_counts[0]; i++) {
    write_jobs(&out, wrong_counts[i], 1, 2);
    assert_false(reads_jobs(&out));
  }
  message_put_jobs(&out, &(struct message_jobs){.batch = 7}); /* no job, and none is said to be there */
  assert_false(reads_jobs(&out));
  write_jobs(&out, 2, 0, 1);
  assert_false(reads_jobs(&out));
  write_jobs(&out, 2, 2, 2);
  assert_false(reads_jobs(&out));
  write_jobs(&out, 2, 1, 2);
  put_u8(&out, 0);
  assert_false(reads_jobs(&out));
  write_jobs(&out, 2, 1, 2);
  out.length--;
  assert_false(reads_jobs(&out));
}

/* ── RECALL ── */

static void a_recall_is_two_numbers_and_no_more(void **state) {
  (void)state;
  struct buffer out = {0};
  struct message_recall recall;
  message_put_recall(&out, &(struct message_recall){.batch = 3, .queue = QUEUE_ALL});
  struct frame frame = take(&out);
  assert_true(message_get_recall(&frame, &recall));
  assert_int_equal(recall.batch, 3);
  assert_int_equal(recall.queue, QUEUE_ALL);
  put_u8(&out, 0);
  frame = take(&out);
  assert_false(message_get_recall(&frame, &recall));
  out.length -= 2;
  frame = take(&out);
  assert_false(message_get_recall(&frame, &recall));
  buffer_free(&out);
}

/* ── READY ── */

static void write_ready(struct buffer *out, int preserve, int64_t timeout_ms) {
  struct message_queue queue = {.name = "mail", .preserve_completed = preserve, .timeout_ms = timeout_ms};
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
    assert_int_equal(ready.queues[0].timeout_ms, -1);
    assert_int_equal(ready.setting_count, 1);
    assert_string_equal(ready.settings[0].value, "5s");
    message_free_ready(&ready);
  }
  buffer_free(out);
  return right;
}

static void a_ready_frame_has_only_choices_that_exist_and_counts_that_fit(void **state) {
  (void)state;
  struct buffer out = {0};
  write_ready(&out, CHOICE_YES, -1);
  size_t settings_at = 4 + 4 + 4 + 2 + 8;
  assert_true(reads_ready(&out));
  write_ready(&out, CHOICE_YES + 1, -1);
  assert_false(reads_ready(&out));
  write_ready(&out, CHOICE_YES, -2);
  assert_false(reads_ready(&out));
  write_ready(&out, CHOICE_YES, -1);
  patch_u32(&out, 0, 3);
  assert_false(reads_ready(&out));
  write_ready(&out, CHOICE_YES, -1);
  patch_u32(&out, settings_at, UINT32_MAX);
  assert_false(reads_ready(&out));
  write_ready(&out, CHOICE_YES, -1);
  patch_u32(&out, settings_at, 0); /* the setting is left over */
  assert_false(reads_ready(&out));
  write_ready(&out, CHOICE_YES, -1);
  out.bytes[4 + 4 + 1] = '\0';
  assert_false(reads_ready(&out));
}

/* ── OUTCOMES ── */

static bool reads_outcome(const struct message_outcome *written) {
  struct buffer out = {0};
  struct message_outcome outcome;
  message_put_outcome(&out, written);
  struct frame frame = take(&out);
  bool right = message_get_outcome(&frame, &outcome);
  if (right) {
    assert_int_equal(outcome.outcome, written->outcome);
    assert_int_equal(outcome.index, written->index);
    assert_true(outcome.duration_us == written->duration_us);
    assert_int_equal(outcome.error_length, written->error_length);
    assert_memory_equal(outcome.error, written->error, written->error_length);
    assert_int_equal(frame_left(&frame), 0);
  }
  buffer_free(&out);
  return right;
}

static void an_outcome_is_one_that_an_executor_can_know(void **state) {
  (void)state;
  struct message_outcome outcome = {.index = 9, .outcome = OUTCOME_FAIL, .error = "a\0b", .error_length = 3};
  assert_true(reads_outcome(&outcome));
  outcome.outcome = OUTCOME_NONE;
  assert_false(reads_outcome(&outcome));
  outcome.outcome = OUTCOME_LEASE;
  assert_false(reads_outcome(&outcome));
  outcome.outcome = OUTCOME_UNRUN;
  assert_true(reads_outcome(&outcome));
  outcome.duration_us = (uint64_t)DURATION_MAX_MS * 1000;
  assert_true(reads_outcome(&outcome));
  outcome.duration_us = INT64_MAX; /* twice that is no number */
  assert_false(reads_outcome(&outcome));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_configure_frame_names_a_script_among_its_arguments),
      cmocka_unit_test(a_frame_of_jobs_holds_as_many_as_it_says_in_the_order_of_their_positions),
      cmocka_unit_test(a_recall_is_two_numbers_and_no_more),
      cmocka_unit_test(a_ready_frame_has_only_choices_that_exist_and_counts_that_fit),
      cmocka_unit_test(an_outcome_is_one_that_an_executor_can_know),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
