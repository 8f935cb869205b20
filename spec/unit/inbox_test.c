#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "inbox.h"
#include "taken.h"

enum { QUEUES = 3 };

static int set_up(void **state) {
  static struct inbox inbox;
  inbox_init(&inbox);
  *state = &inbox;
  return 0;
}

static int tear_down(void **state) {
  inbox_free(*state);
  return 0;
}

/* One job of a frame, in a short form for the tests. */
struct sent {
  uint32_t index, queue;
  const char *data;
};

static void write_jobs(struct buffer *out, uint32_t batch, const struct sent *jobs, uint32_t count) {
  message_put_jobs(out, &(struct message_jobs){.batch = batch, .count = count});
  for (uint32_t i = 0; i < count; i++)
    message_put_job(out, &(struct message_job){.index = jobs[i].index,
                                               .position = jobs[i].index + 1,
                                               .queue = jobs[i].queue,
                                               .id = 100 * (int64_t)batch + jobs[i].index,
                                               .data = jobs[i].data,
                                               .data_length = strlen(jobs[i].data)});
}

/* The frame's bytes are gone when this returns. */
static bool add(struct inbox *inbox, uint32_t batch, const struct sent *jobs, uint32_t count) {
  struct buffer out = {0};
  write_jobs(&out, batch, jobs, count);
  struct frame frame = take(&out);
  bool added = inbox_add(inbox, &frame, QUEUES);
  memset(out.bytes, 'x', out.length);
  buffer_free(&out);
  return added;
}

#define ADD(inbox, batch, ...)                                                                                         \
  assert_true(add(inbox, batch, (const struct sent[]){__VA_ARGS__},                                                    \
                  sizeof((const struct sent[]){__VA_ARGS__}) / sizeof(struct sent)))

/* Expects the next job to have this id. Removes it, and returns whether it may begin. */
static bool next_is(struct inbox *inbox, int64_t id) {
  struct message_job job;
  uint32_t batch;
  assert_true(inbox_peek(inbox, &batch, &job));
  assert_int_equal(job.id, id);
  assert_int_equal(batch, id / 100);
  bool may = inbox_may_begin(inbox, &job);
  inbox_drop(inbox);
  return may;
}

static void assert_empty(struct inbox *inbox) {
  struct message_job job;
  uint32_t batch;
  assert_false(inbox_peek(inbox, &batch, &job));
}

static void jobs_have_their_turn_in_the_order_they_came(void **state) {
  assert_empty(*state);
  ADD(*state, 4, {0, 0, "a"}, {1, 1, "b"});
  ADD(*state, 7, {0, 2, "c"});
  assert_true(next_is(*state, 400));
  ADD(*state, 4, {2, 0, "d"}); /* more of a batch: large data comes later */
  assert_true(next_is(*state, 401));
  assert_true(next_is(*state, 700));
  assert_true(next_is(*state, 402));
  assert_empty(*state);
  ADD(*state, 6, {0, 0, "e"});
  assert_true(next_is(*state, 600));
  assert_empty(*state);
}

static void a_job_is_the_same_and_keeps_its_data_until_it_is_dropped(void **state) {
  struct message_job job, again;
  uint32_t batch;
  ADD(*state, 4, {0, 1, "the data"}, {1, 0, ""});
  assert_true(inbox_peek(*state, &batch, &job));
  ADD(*state, 5, {0, 0, "more"});
  assert_true(inbox_peek(*state, &batch, &again));
  assert_int_equal(again.id, 400);
  assert_int_equal(again.queue, 1);
  assert_ptr_equal(again.data, job.data);
  assert_int_equal(job.data_length, 8);
  assert_memory_equal(job.data, "the data", 8);
}

static void a_frame_that_cannot_be_is_refused_whole(void **state) {
  struct buffer out = {0};
  const struct sent unknown[] = {{0, 0, "a"}, {1, QUEUES, "b"}};
  assert_false(add(*state, 4, unknown, 2));
  assert_empty(*state);
  write_jobs(&out, 4, unknown, 1);
  out.length--;
  struct frame frame = take(&out);
  assert_false(inbox_add(*state, &frame, QUEUES));
  buffer_free(&out);
  assert_empty(*state);
}

static void a_recall_is_of_a_queue_of_a_batch(void **state) {
  ADD(*state, 4, {0, 0, ""}, {1, 1, ""}, {2, 0, ""});
  ADD(*state, 5, {0, 1, ""});
  ADD(*state, 4, {3, 1, ""});
  inbox_recall(*state, 4, 1);
  inbox_recall(*state, 4, 1);
  inbox_recall(*state, 9, 0); /* of which there is none */
  assert_true(next_is(*state, 400));
  assert_false(next_is(*state, 401));
  assert_true(next_is(*state, 402));
  assert_true(next_is(*state, 500));
  assert_false(next_is(*state, 403));
}

static void a_recall_is_of_all_queues_or_of_all_batches(void **state) {
  ADD(*state, 4, {0, 0, ""}, {1, 1, ""});
  ADD(*state, 5, {0, 1, ""}, {1, 2, ""});
  inbox_recall(*state, 4, QUEUE_ALL);
  inbox_recall(*state, 0, 1);
  assert_false(next_is(*state, 400));
  assert_false(next_is(*state, 401));
  assert_false(next_is(*state, 500));
  assert_true(next_is(*state, 501));
}

static void a_recall_is_not_of_what_comes_later(void **state) {
  ADD(*state, 4, {0, 0, ""}, {1, 0, ""});
  assert_true(next_is(*state, 400));
  inbox_recall(*state, 4, QUEUE_ALL);
  inbox_recall(*state, 0, 0);
  ADD(*state, 4, {2, 0, ""});
  assert_false(next_is(*state, 401));
  assert_true(next_is(*state, 402));
}

static void a_recall_is_also_of_a_job_that_was_looked_at(void **state) {
  struct message_job job;
  uint32_t batch;
  ADD(*state, 4, {0, 0, ""});
  assert_true(inbox_peek(*state, &batch, &job));
  assert_true(inbox_may_begin(*state, &job));
  inbox_recall(*state, 4, 0);
  assert_false(inbox_may_begin(*state, &job));
}

static void a_cancel_is_of_one_job(void **state) {
  ADD(*state, 4, {0, 0, ""}, {1, 0, ""}, {2, 0, ""});
  ADD(*state, 5, {1, 0, ""});
  ADD(*state, 4, {3, 0, ""});
  inbox_cancel(*state, 4, 1);
  inbox_cancel(*state, 4, 3); /* in another frame of its batch */
  inbox_cancel(*state, 4, 9);
  inbox_cancel(*state, 9, 0);
  assert_true(next_is(*state, 400));
  assert_false(next_is(*state, 401));
  assert_true(next_is(*state, 402));
  assert_true(next_is(*state, 501));
  assert_false(next_is(*state, 403));
}

static void what_was_said_of_a_batch_goes_with_it(void **state) {
  ADD(*state, 4, {0, 0, ""});
  inbox_recall(*state, 4, QUEUE_ALL);
  inbox_recall(*state, 4, 0);
  inbox_cancel(*state, 4, 0);
  assert_false(next_is(*state, 400));
  ADD(*state, 4, {0, 0, ""});
  assert_true(next_is(*state, 400));
}

/* A sanitizer reports memory that is not freed. */
static void what_has_had_no_turn_is_freed(void **state) {
  struct message_job job;
  uint32_t batch;
  ADD(*state, 4, {0, 0, "a"}, {1, 0, "b"});
  ADD(*state, 5, {0, 0, "c"});
  inbox_recall(*state, 4, 0);
  inbox_cancel(*state, 5, 0);
  assert_true(inbox_peek(*state, &batch, &job));
  inbox_free(*state);
  assert_empty(*state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(jobs_have_their_turn_in_the_order_they_came),
      TEST(a_job_is_the_same_and_keeps_its_data_until_it_is_dropped),
      TEST(a_frame_that_cannot_be_is_refused_whole),
      TEST(a_recall_is_of_a_queue_of_a_batch),
      TEST(a_recall_is_of_all_queues_or_of_all_batches),
      TEST(a_recall_is_not_of_what_comes_later),
      TEST(a_recall_is_also_of_a_job_that_was_looked_at),
      TEST(a_cancel_is_of_one_job),
      TEST(what_was_said_of_a_batch_goes_with_it),
      TEST(what_has_had_no_turn_is_freed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
