/*
 * How many more jobs an executor can take, by the jobs that it has already. The holds here are never opened, and the
 * executor is not started.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "clock.h"
#include "hold_state.h"
#include "memory.h"
#include "slot_state.h"

enum { CONCURRENCY = 10, PLENTY = INT32_MAX, JOBS_MOST = 32 };

struct scene {
  struct slot slot;
  struct options options;
  struct queue_list list;
  struct queue *queues[3];
  struct hold holds[HOLDS_PER_EXECUTOR];
  struct job jobs[HOLDS_PER_EXECUTOR][JOBS_MOST];
  struct isolation isolation;
  uv_loop_t loop;
};

static int set_up(void **state) {
  static const char *const names[] = {"a", "b", "c"};
  struct scene *scene = memory_new(sizeof *scene);
  scene->options.concurrency = CONCURRENCY;
  scene->slot = (struct slot){.start.options = &scene->options,
                              .start.isolation = &scene->isolation,
                              .queues = scene->queues,
                              .queue_count = 3};
  uv_loop_init(&scene->loop);
  scene->slot.start.wakeup = wakeup_new(&scene->loop, &scene->options, &scene->list, NULL, NULL, NULL);
  wakeup_stop(scene->slot.start.wakeup);
  scene->slot.child = child_new(NULL, NULL, NULL, &scene->slot);
  for (int i = 0; i < 3; i++)
    scene->queues[i] = queue_find(&scene->list, names[i]);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++) {
    scene->holds[lane].batch.jobs = scene->jobs[lane];
    scene->slot.holds[lane] = &scene->holds[lane];
  }
  *state = scene;
  return 0;
}

static int tear_down(void **state) {
  struct scene *scene = *state;
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    free(scene->holds[lane].leased.items);
  child_free(scene->slot.child);
  wakeup_free(scene->slot.start.wakeup);
  if (scene->slot.state == SLOT_READY)
    uv_close((uv_handle_t *)&scene->slot.timer, NULL);
  uv_run(&scene->loop, UV_RUN_DEFAULT);
  uv_loop_close(&scene->loop);
  queue_list_free(&scene->list);
  free(scene);
  return 0;
}

/* Jobs of a queue are with the executor, in a hold. */
static void run(struct scene *scene, int lane, uint32_t queue, int count) {
  struct batch *batch = &scene->holds[lane].batch;
  for (int i = 0; i < count; i++)
    batch->jobs[batch->count++] = (struct job){.queue = scene->queues[queue], .queue_index = queue};
  scene->holds[lane].state = HOLD_RUNNING;
}

/* The same, but the jobs have outlived their hold. */
static void lease(struct scene *scene, int lane, uint32_t queue, int count) {
  struct lease_list *leased = &scene->holds[lane].leased;
  leased->items = memory_resize(leased->items, (size_t)(leased->count + count) * sizeof *leased->items);
  for (int i = 0; i < count; i++)
    leased->items[leased->count++] = (struct lease){.job = {.queue = scene->queues[queue], .queue_index = queue}};
}

/* The handlers of the queue wait for this long. */
static void make_wait(struct scene *scene, int queue, int64_t run_us) {
  queue_saw_run(scene->queues[queue], true, run_us);
}

static int32_t capacity[3];

static int32_t ask(struct scene *scene, int lane) {
  for (int i = 0; i < 3; i++)
    capacity[i] = -77;
  return slot_hold_events.capacity(&scene->slot, &scene->holds[lane], capacity);
}

static void assert_capacity(struct scene *scene, int32_t a, int32_t b, int32_t c) {
  assert_int_equal(ask(scene, SLOT_FIRST_HOLD), INT32_MAX);
  assert_int_equal(capacity[0], a);
  assert_int_equal(capacity[1], b);
  assert_int_equal(capacity[2], c);
}

static void handlers_that_do_not_wait_have_all_the_room(void **state) {
  struct scene *scene = *state;
  run(scene, SLOT_FIRST_HOLD, 0, 20);
  assert_capacity(scene, PLENTY, PLENTY, PLENTY);
}

static void those_that_wait_share_what_an_executor_may_have_in_flight(void **state) {
  struct scene *scene = *state;
  make_wait(scene, 0, 1000000);
  make_wait(scene, 1, 1000000);
  assert_capacity(scene, CONCURRENCY, CONCURRENCY, PLENTY);
  run(scene, SLOT_FIRST_HOLD, 0, 2);
  run(scene, SLOT_AHEAD_HOLD, 1, 1);
  lease(scene, SLOT_FIRST_HOLD, 1, 3);
  run(scene, SLOT_FIRST_HOLD, 2, 5); /* these do not wait, and do not count */
  assert_capacity(scene, 4, 4, PLENTY);
  lease(scene, SLOT_AHEAD_HOLD, 0, 9);
  assert_capacity(scene, 0, 0, PLENTY); /* more than there may be: they began before it was known that they wait */
}

static void what_has_ended_takes_no_room(void **state) {
  struct scene *scene = *state;
  make_wait(scene, 0, 1000000);
  run(scene, SLOT_FIRST_HOLD, 0, 4);
  lease(scene, SLOT_AHEAD_HOLD, 0, 4);
  scene->jobs[SLOT_FIRST_HOLD][0].outcome = OUTCOME_COMPLETE;
  scene->holds[SLOT_AHEAD_HOLD].leased.items[2].job.outcome = OUTCOME_FAIL;
  assert_capacity(scene, CONCURRENCY - 6, PLENTY, PLENTY);
}

static void jobs_of_queues_that_the_executor_no_longer_has_take_no_room(void **state) {
  struct scene *scene = *state;
  make_wait(scene, 0, 1000000);
  run(scene, SLOT_FIRST_HOLD, 0, 2);
  scene->jobs[SLOT_FIRST_HOLD][1].queue_index = 3;
  assert_capacity(scene, CONCURRENCY - 1, PLENTY, PLENTY);
}

/* While a batch is being settled, another batch of the same size is claimed. */
static void brief_waits_have_twice_the_room_but_not_in_one_claim(void **state) {
  struct scene *scene = *state;
  make_wait(scene, 0, 5000);
  assert_true(queue_is_brief(scene->queues[0]));
  assert_capacity(scene, CONCURRENCY, PLENTY, PLENTY);
  run(scene, SLOT_FIRST_HOLD, 0, 8);
  assert_capacity(scene, CONCURRENCY, PLENTY, PLENTY);
  run(scene, SLOT_AHEAD_HOLD, 0, 8);
  assert_capacity(scene, 4, PLENTY, PLENTY);
  run(scene, SLOT_AHEAD_HOLD, 0, 4);
  assert_capacity(scene, 0, PLENTY, PLENTY);
}

/* Leased jobs do not end soon, so no further batch is claimed behind them. */
static void behind_leased_jobs_there_is_no_room_ahead(void **state) {
  struct scene *scene = *state;
  make_wait(scene, 0, 5000);
  lease(scene, SLOT_FIRST_HOLD, 0, 2);
  assert_capacity(scene, CONCURRENCY, PLENTY, PLENTY);
  run(scene, SLOT_FIRST_HOLD, 0, 8);
  assert_capacity(scene, 6, PLENTY, PLENTY);
  lease(scene, SLOT_FIRST_HOLD, 0, 8);
  assert_capacity(scene, 0, PLENTY, PLENTY);
}

static void a_queue_has_no_more_in_flight_than_it_asked_for(void **state) {
  struct scene *scene = *state;
  make_wait(scene, 0, 1000000);
  make_wait(scene, 1, 1000000);
  scene->queues[0]->concurrency = 3;
  run(scene, SLOT_FIRST_HOLD, 0, 1);
  run(scene, SLOT_FIRST_HOLD, 1, 2);
  assert_capacity(scene, 2, 8, PLENTY); /* the others share what is the executor's */
  run(scene, SLOT_FIRST_HOLD, 0, 2);
  assert_capacity(scene, 0, 8, PLENTY);
  scene->queues[0]->concurrency = 100;
  assert_capacity(scene, 97, 8, PLENTY);
}

/* One connection of the pool is not for transactional jobs. */
static void transactional_queues_share_the_connections_of_the_pool(void **state) {
  struct scene *scene = *state;
  scene->options.pool = 5;
  for (int i = 0; i < 2; i++) {
    make_wait(scene, i, 1000000);
    scene->queues[i]->transactional = true;
    scene->queues[i]->concurrency = i == 0 ? 4 : 2;
  }
  assert_capacity(scene, 4, 2, PLENTY);
  lease(scene, SLOT_FIRST_HOLD, 0, 1);
  assert_capacity(scene, 3, 2, PLENTY);
  lease(scene, SLOT_FIRST_HOLD, 1, 2);
  assert_capacity(scene, 1, 0, PLENTY);
  run(scene, SLOT_AHEAD_HOLD, 0, 1);
  assert_capacity(scene, 0, 0, PLENTY);
}

static void the_most_that_an_executor_may_have_is_no_overflow(void **state) {
  struct scene *scene = *state;
  make_wait(scene, 0, 1000);
  scene->options.concurrency = INT32_MAX;
  assert_capacity(scene, INT32_MAX, PLENTY, PLENTY);
  run(scene, SLOT_FIRST_HOLD, 0, 1);
  assert_capacity(scene, INT32_MAX, PLENTY, PLENTY);
}

/* A slot that is ready, so that its timer may run. */
static void be_ready(struct scene *scene) {
  scene->slot.state = SLOT_READY;
  uv_timer_init(&scene->loop, &scene->slot.timer);
}

static void jobs_that_must_run_alone_wait_until_the_executor_has_no_others(void **state) {
  struct scene *scene = *state;
  const struct hold *first = &scene->holds[SLOT_FIRST_HOLD];
  be_ready(scene);
  assert_int_equal(slot_claims_deaths(&scene->slot, first), CLAIM_DEATHS_ANY);
  assert_int_equal(slot_claims_deaths(&scene->slot, &scene->holds[SLOT_AHEAD_HOLD]), CLAIM_DEATHS_FEW);
  lease(scene, SLOT_FIRST_HOLD, 0, 1);
  assert_false(slot_may_run_alone(&scene->slot, first));
  assert_ptr_equal(scene->isolation.slot, &scene->slot);
  assert_int_equal(ask(scene, SLOT_FIRST_HOLD), 0);
  scene->holds[SLOT_FIRST_HOLD].leased.count = 0;
  assert_int_equal(ask(scene, SLOT_FIRST_HOLD), 64);
  assert_int_equal(slot_claims_deaths(&scene->slot, first), CLAIM_DEATHS_MANY);
  assert_int_equal(ask(scene, SLOT_AHEAD_HOLD), 0);
  assert_true(slot_may_run_alone(&scene->slot, first));
}

static void nothing_else_runs_beside_jobs_that_run_alone_and_others_get_time_afterwards(void **state) {
  struct scene *scene = *state;
  const struct hold *first = &scene->holds[SLOT_FIRST_HOLD];
  be_ready(scene);
  assert_true(slot_may_run_alone(&scene->slot, first));
  lease(scene, SLOT_FIRST_HOLD, 0, 1);
  assert_int_equal(ask(scene, SLOT_FIRST_HOLD), 0);
  assert_int_equal(ask(scene, SLOT_AHEAD_HOLD), 0);
  scene->slot.isolated_ms = clock_ms() - 60000;
  scene->holds[SLOT_FIRST_HOLD].leased.count = 0;
  assert_int_equal(ask(scene, SLOT_FIRST_HOLD), PLENTY);
  assert_null(scene->isolation.slot);
  assert_int_equal(slot_claims_deaths(&scene->slot, first), CLAIM_DEATHS_FEW);
  assert_in_range(scene->isolation.rest_until_ms, clock_ms() + 4000, clock_ms() + 5000);
  scene->isolation.rest_until_ms = 0;
  assert_int_equal(slot_claims_deaths(&scene->slot, first), CLAIM_DEATHS_ANY);
}

static void one_slot_at_a_time_runs_jobs_alone(void **state) {
  struct scene *scene = *state;
  struct slot other = scene->slot;
  const struct hold *first = &scene->holds[SLOT_FIRST_HOLD];
  be_ready(scene);
  scene->isolation.slot = &other;
  assert_int_equal(slot_claims_deaths(&scene->slot, first), CLAIM_DEATHS_FEW);
  assert_false(slot_may_run_alone(&scene->slot, first));
  slot_turned_away(&scene->slot);
  assert_ptr_equal(scene->isolation.slot, &other);
  assert_int_equal(ask(scene, SLOT_FIRST_HOLD), PLENTY);
}

static void a_slot_takes_over_from_one_that_waited_in_vain(void **state) {
  struct scene *scene = *state;
  be_ready(scene);
  slot_take_isolation(&scene->slot);
  assert_null(scene->isolation.slot);
  scene->isolation.replaced = true;
  assert_int_equal(slot_claims_deaths(&scene->slot, &scene->holds[SLOT_FIRST_HOLD]), CLAIM_DEATHS_FEW);
  slot_take_isolation(&scene->slot);
  assert_false(scene->isolation.replaced);
  assert_int_equal(slot_claims_deaths(&scene->slot, &scene->holds[SLOT_FIRST_HOLD]), CLAIM_DEATHS_MANY);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(handlers_that_do_not_wait_have_all_the_room),
      TEST(those_that_wait_share_what_an_executor_may_have_in_flight),
      TEST(what_has_ended_takes_no_room),
      TEST(jobs_of_queues_that_the_executor_no_longer_has_take_no_room),
      TEST(brief_waits_have_twice_the_room_but_not_in_one_claim),
      TEST(behind_leased_jobs_there_is_no_room_ahead),
      TEST(a_queue_has_no_more_in_flight_than_it_asked_for),
      TEST(transactional_queues_share_the_connections_of_the_pool),
      TEST(the_most_that_an_executor_may_have_is_no_overflow),
      TEST(jobs_that_must_run_alone_wait_until_the_executor_has_no_others),
      TEST(nothing_else_runs_beside_jobs_that_run_alone_and_others_get_time_afterwards),
      TEST(one_slot_at_a_time_runs_jobs_alone),
      TEST(a_slot_takes_over_from_one_that_waited_in_vain),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
