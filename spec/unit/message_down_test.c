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
 * The readers of the frames that a supervisor sends; what the fuzz corpus cannot say is which frames are right.
 * Every test writes a right frame, then one with a single fault.
 */

/* ── CONFIGURE ── */

static void write_configure(struct buffer *out, uint32_t script) {
  char *argv[] = {"pgq-lua", "--drain", "worker.lua"};
  struct message_source files[] = {{.module = "", .path = "worker.lua", .bytes = "a\0b", .length = 3},
                                   {.module = "lib", .path = "./lib.lua", .bytes = "", .length = 0}};
  message_put_configure(out, &(struct message_configure){.conninfo = "host=x",
                                                         .most_memory = 1 << 20,
                                                         .script = script,
                                                         .argc = 3,
                                                         .argv = argv,
                                                         .sources = {.count = 2, .items = files}});
}

static bool reads_configure(struct buffer *out) {
  struct message_configure configure;
  struct frame frame = take(out);
  bool right = message_get_configure(&frame, &configure);
  if (right) {
    assert_string_equal(configure.conninfo, "host=x");
    assert_int_equal(configure.most_memory, 1 << 20);
    assert_string_equal(configure.argv[configure.script], "worker.lua");
    assert_int_equal(configure.sources.count, 2);
    assert_string_equal(configure.sources.items[0].module, "");
    assert_string_equal(configure.sources.items[0].path, "worker.lua");
    assert_int_equal(configure.sources.items[0].length, 3);
    assert_memory_equal(configure.sources.items[0].bytes, "a\0b", 3);
    assert_string_equal(configure.sources.items[1].module, "lib");
    assert_int_equal(configure.sources.items[1].length, 0);
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

static void a_configure_frame_has_as_many_sources_as_it_says(void **state) {
  (void)state;
  enum { SOURCES = 4 + 6 + 8 + 4 + 4 + 4 + 7 + 4 + 7 + 4 + 10 };
  struct buffer out = {0};
  for (uint32_t count = 0; count < 5; count++) {
    write_configure(&out, 2);
    patch_u32(&out, SOURCES, count);
    assert_int_equal(reads_configure(&out), count == 2);
  }
  write_configure(&out, 2);
  patch_u32(&out, SOURCES, UINT32_MAX);
  assert_false(reads_configure(&out));
  write_configure(&out, 2);
  out.length--;
  assert_false(reads_configure(&out));
}

/* ── JOBS ── */

static void write_jobs(struct buffer *out, uint32_t count, uint32_t first, uint32_t second) {
  message_put_jobs(out, &(struct message_jobs){.batch = 7, .count = count});
  message_put_job(out, &(struct message_job){.position = first, .id = INT64_MIN, .data = "a\0b", .data_length = 3});
  message_put_job(out, &(struct message_job){.index = 1,
                                             .position = second,
                                             .queue = 3,
                                             .id = 2,
                                             .attempt = 4,
                                             .retries_left = 5,
                                             .created_at = 0.5,
                                             .run_after = 1.5,
                                             .settles = true,
                                             .lease = INT64_MAX});
}

static void check_second_job(const struct message_job *job) {
  assert_int_equal(job->index, 1);
  assert_int_equal(job->queue, 3);
  assert_int_equal(job->attempt, 4);
  assert_int_equal(job->retries_left, 5);
  assert_true(job->created_at == 0.5 && job->run_after == 1.5);
  assert_true(job->settles);
  assert_true(job->lease == INT64_MAX);
  assert_int_equal(job->data_length, 0);
}

static bool reads_jobs(struct buffer *out) {
  struct message_jobs jobs;
  struct message_job job;
  struct frame frame = take(out);
  bool right = message_get_jobs(&frame, &jobs);
  if (right) {
    assert_int_equal(jobs.batch, 7);
    assert_int_equal(jobs.count, 2);
    assert_int_equal(jobs.last_queue, 3);
    assert_true(message_get_job(&frame, &job));
    assert_true(job.id == INT64_MIN);
    assert_true(job.lease == 0 && !job.settles);
    assert_memory_equal(job.data, "a\0b", 3);
    assert_true(message_get_job(&frame, &job));
    check_second_job(&job);
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

/* ── RECALL and CANCEL ── */

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

static void a_cancel_is_two_numbers_and_no_more(void **state) {
  (void)state;
  struct buffer out = {0};
  struct message_cancel cancel;
  message_put_cancel(&out, &(struct message_cancel){.batch = 3, .index = UINT32_MAX});
  struct frame frame = take(&out);
  assert_true(message_get_cancel(&frame, &cancel));
  assert_int_equal(cancel.batch, 3);
  assert_int_equal(cancel.index, UINT32_MAX);
  put_u8(&out, 0);
  frame = take(&out);
  assert_false(message_get_cancel(&frame, &cancel));
  out.length -= 2;
  frame = take(&out);
  assert_false(message_get_cancel(&frame, &cancel));
  buffer_free(&out);
}

/* ── SERVE ── */

enum {
  SERVE_CONCURRENCY = 0,
  SERVE_POOL = 4,
  SERVE_PREPARE = 8,
  SERVE_VERSION = 9,
  SERVE_COUNT = SERVE_VERSION + 4 + 4,
  SERVE_QUEUE = SERVE_COUNT + 4,
  SERVE_PRESERVE = SERVE_QUEUE + 12
};

static void write_serve(struct buffer *out, int64_t timeout_ms) {
  struct message_serve_queue queues[] = {{.concurrency = 3, .timeout_ms = timeout_ms, .preserve_completed = true}, {0}};
  message_put_serve(
      out, &(struct message_serve){
               .concurrency = 10, .pool = 5, .prepare = true, .version = "3f9a", .queue_count = 2, .queues = queues});
}

static bool reads_serve(struct buffer *out, int64_t timeout_ms) {
  struct message_serve serve;
  struct frame frame = take(out);
  bool right = message_get_serve(&frame, &serve);
  if (right) {
    assert_int_equal(serve.concurrency, 10);
    assert_int_equal(serve.pool, 5);
    assert_true(serve.prepare);
    assert_string_equal(serve.version, "3f9a");
    assert_int_equal(serve.queue_count, 2);
    assert_int_equal(serve.queues[0].concurrency, 3);
    assert_true(serve.queues[0].timeout_ms == timeout_ms);
    assert_true(serve.queues[0].preserve_completed);
    assert_int_equal(serve.queues[1].concurrency, 0);
    assert_false(serve.queues[1].preserve_completed);
    message_free_serve(&serve);
  }
  buffer_free(out);
  return right;
}

static bool reads_serve_with(size_t at, uint32_t number) {
  struct buffer out = {0};
  write_serve(&out, 0);
  patch_u32(&out, at, number);
  return reads_serve(&out, 0);
}

static void a_serve_frame_allows_one_task_and_one_connection_at_least(void **state) {
  (void)state;
  assert_true(reads_serve_with(SERVE_CONCURRENCY, 10));
  assert_false(reads_serve_with(SERVE_CONCURRENCY, 0));
  assert_true(reads_serve_with(SERVE_POOL, 5));
  assert_false(reads_serve_with(SERVE_POOL, 0));
}

static void a_serve_frame_has_as_many_queues_as_it_says(void **state) {
  (void)state;
  struct buffer out = {0};
  assert_false(reads_serve_with(SERVE_COUNT, 0));
  assert_false(reads_serve_with(SERVE_COUNT, 1));
  assert_false(reads_serve_with(SERVE_COUNT, 3));
  assert_false(reads_serve_with(SERVE_COUNT, UINT32_MAX));
  write_serve(&out, 0);
  put_u8(&out, 0);
  assert_false(reads_serve(&out, 0));
  write_serve(&out, 0);
  out.length--;
  assert_false(reads_serve(&out, 0));
}

static void a_serve_frame_has_time_limits_and_flags_that_exist(void **state) {
  (void)state;
  struct buffer out = {0};
  write_serve(&out, DURATION_MAX_MS);
  assert_true(reads_serve(&out, DURATION_MAX_MS));
  write_serve(&out, DURATION_MAX_MS + 1); /* a thousand times that is no number */
  assert_false(reads_serve(&out, 0));
  write_serve(&out, -1);
  assert_false(reads_serve(&out, 0));
  write_serve(&out, 0);
  out.bytes[SERVE_PREPARE] = 2;
  assert_false(reads_serve(&out, 0));
  write_serve(&out, 0);
  out.bytes[SERVE_PRESERVE] = 2;
  assert_false(reads_serve(&out, 0));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_configure_frame_names_a_script_among_its_arguments),
      cmocka_unit_test(a_configure_frame_has_as_many_sources_as_it_says),
      cmocka_unit_test(a_frame_of_jobs_holds_as_many_as_it_says_in_the_order_of_their_positions),
      cmocka_unit_test(a_recall_is_two_numbers_and_no_more),
      cmocka_unit_test(a_cancel_is_two_numbers_and_no_more),
      cmocka_unit_test(a_serve_frame_allows_one_task_and_one_connection_at_least),
      cmocka_unit_test(a_serve_frame_has_as_many_queues_as_it_says),
      cmocka_unit_test(a_serve_frame_has_time_limits_and_flags_that_exist),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
