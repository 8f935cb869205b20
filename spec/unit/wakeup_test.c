#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "doorbell.h"
#include "fake_clock.h"
#include "wakeup.h"

enum { POLL_MS = 10000 };

static uv_loop_t loop;
static struct options options;
static struct queue_list queues;
static struct sweep sweep_state;
static struct wakeup *wakeup;

/* The requests of the wake-up logic, a letter each: a claim (c), a sweep (s), the flags up (U) or down (D), whether an
 * enqueue is in flight (p), an answer for the peers (a), the end of a drain (d). */
static char asked[256];

/* Whether a hold sleeps and may be woken, whether all holds sleep, and whether the worker can hear a ring. */
static bool one_sleeps, all_sleep, can_hear;

static void note(char letter) {
  size_t length = strlen(asked);
  assert_true(length + 1 < sizeof asked);
  asked[length] = letter;
  asked[length + 1] = '\0';
}

static bool on_wake(void *owner, bool swept) {
  (void)owner;
  if (one_sleeps)
    note(swept ? 's' : 'c');
  return one_sleeps;
}

/* The doorbell's functions: only these three are called, and no other part of it is linked. */
#define BELL ((struct doorbell *)&one_sleeps)

bool doorbell_flag(struct doorbell *bell, bool up) {
  assert_ptr_equal(bell, BELL);
  note(up ? 'U' : 'D');
  return can_hear;
}

void doorbell_probe(struct doorbell *bell) {
  assert_ptr_equal(bell, BELL);
  note('p');
}

void doorbell_answer(struct doorbell *bell, int64_t ring) {
  assert_ptr_equal(bell, BELL);
  assert_int_equal(ring, sweep_state.ring);
  note('a');
}

static bool on_all_idle(void *owner) {
  (void)owner;
  return all_sleep;
}

static void on_drained(void *owner) {
  (void)owner;
  note('d');
}

static const struct wakeup_events events = {.wake = on_wake, .all_idle = on_all_idle, .drained = on_drained};

static int set_up(void **state) {
  (void)state;
  fake_clock_reset();
  uv_loop_init(&loop);
  options = (struct options){.poll_interval_ms = POLL_MS};
  sweep_state = (struct sweep){0};
  asked[0] = '\0';
  one_sleeps = all_sleep = can_hear = true;
  wakeup = wakeup_new(&loop, &options, &queues, &sweep_state, &events, NULL);
  wakeup_set_doorbell(wakeup, BELL);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  wakeup_free(wakeup);
  uv_run(&loop, UV_RUN_DEFAULT);
  queue_list_free(&queues);
  queues = (struct queue_list){0};
  return uv_loop_close(&loop);
}

/* Expects these requests since the last call. */
static void expect_asked(const char *expected) {
  assert_string_equal(asked, expected);
  asked[0] = '\0';
}

static void pass_ms(int64_t ms) {
  fake_clock_advance(ms * 1000);
  uv_run(&loop, UV_RUN_NOWAIT);
}

/* A hold has looked, and found nothing; `swept`: also not below the floors. */
static void find_nothing(bool swept) {
  wakeup_slept(wakeup, &(struct idle_info){.complete = true, .swept = swept, .wait_ms = -1});
}

/* Lets the worker fall asleep: no enqueue is in flight, and a sweep finds nothing. */
static void fall_idle(void) {
  find_nothing(false);
  wakeup_raised(wakeup, true);
  find_nothing(true);
  expect_asked("Us");
}

static void after_a_job_claims_follow_every_few_ms_for_50_ms_and_then_the_flags_go_up(void **state) {
  (void)state;
  wakeup_found(wakeup);
  int claims = 0;
  for (int ms = 0; ms < 49; ms++) {
    pass_ms(1);
    if (asked[0] == 'c') {
      expect_asked("c");
      claims++;
      find_nothing(false);
    }
  }
  assert_in_range(claims, 10, 25);
  expect_asked("");
  pass_ms(4);
  expect_asked("c");
  find_nothing(false);
  expect_asked("U");
}

static void a_worker_without_jobs_sweeps_once_and_sleeps_for_the_polling_interval(void **state) {
  (void)state;
  fall_idle();
  pass_ms(POLL_MS - 1);
  expect_asked("");
  pass_ms(1);
  expect_asked("s");
  find_nothing(true);
  pass_ms(POLL_MS);
  expect_asked("s");
}

static void a_ring_wakes_a_worker_that_sleeps(void **state) {
  (void)state;
  fall_idle();
  wakeup_rung(wakeup);
  expect_asked("c");
  wakeup_found(wakeup);
  expect_asked("D");
}

static void a_ring_whose_job_is_not_found_is_followed_by_a_sweep(void **state) {
  (void)state;
  fall_idle();
  wakeup_rung(wakeup);
  expect_asked("c");
  find_nothing(false);
  expect_asked("s");
}

static void a_ring_while_every_hold_is_busy_is_answered_by_the_next_that_is_not(void **state) {
  (void)state;
  one_sleeps = false;
  wakeup_rung(wakeup);
  expect_asked("");
  one_sleeps = true;
  find_nothing(false);
  expect_asked("c");
  find_nothing(false); /* the ring is answered */
  expect_asked("U");
}

static void an_incomplete_look_is_followed_by_another(void **state) {
  (void)state;
  wakeup_slept(wakeup, &(struct idle_info){.complete = false, .wait_ms = -1});
  expect_asked("c");
}

static void while_an_enqueue_is_in_flight_the_worker_looks_after_waits_that_grow_to_250_ms(void **state) {
  (void)state;
  find_nothing(false);
  expect_asked("U");
  wakeup_raised(wakeup, false);
  expect_asked("s");
  static const int waits_ms[] = {2, 4, 8, 16, 32, 64, 128, 250, 250};
  for (size_t i = 0; i < sizeof waits_ms / sizeof waits_ms[0]; i++) {
    find_nothing(true);
    pass_ms(waits_ms[i] - 1);
    expect_asked("");
    pass_ms(1);
    expect_asked("p");
    wakeup_raised(wakeup, false);
    expect_asked("s");
  }
  find_nothing(true);
  pass_ms(250);
  expect_asked("p");
  wakeup_raised(wakeup, true);
  find_nothing(true);
  expect_asked("s");
  pass_ms(1000);
  expect_asked("");
}

static void a_worker_that_cannot_hear_a_ring_sweeps_and_sleeps(void **state) {
  (void)state;
  can_hear = false;
  find_nothing(false);
  expect_asked("Us");
  find_nothing(true);
  pass_ms(POLL_MS);
  expect_asked("s");
}

static void without_a_doorbell_it_sweeps_and_sleeps(void **state) {
  (void)state;
  wakeup_set_doorbell(wakeup, NULL);
  find_nothing(false);
  expect_asked("s");
  find_nothing(true);
  pass_ms(POLL_MS - 1);
  expect_asked("");
  pass_ms(1);
  expect_asked("s");
}

static void a_sweep_waits_until_it_may_be_made(void **state) {
  (void)state;
  sweep_state.allowed_ms = clock_ms() + 300;
  find_nothing(false);
  wakeup_raised(wakeup, true);
  expect_asked("U");
  pass_ms(299);
  expect_asked("");
  pass_ms(1);
  expect_asked("s");
}

static void a_job_that_falls_due_is_claimed_then(void **state) {
  (void)state;
  find_nothing(false);
  wakeup_raised(wakeup, true);
  wakeup_slept(wakeup, &(struct idle_info){.complete = true, .swept = true, .wait_ms = 700});
  expect_asked("Us");
  pass_ms(699);
  expect_asked("");
  pass_ms(1);
  expect_asked("c");
}

static void a_due_job_that_another_session_holds_is_looked_for_after_500_ms(void **state) {
  (void)state;
  find_nothing(false);
  wakeup_raised(wakeup, true);
  wakeup_slept(wakeup, &(struct idle_info){.complete = true, .swept = true, .due_locked = true, .wait_ms = -1});
  expect_asked("Us");
  pass_ms(499);
  expect_asked("");
  pass_ms(1);
  expect_asked("s");
}

static void a_queue_that_backs_off_is_asked_when_its_backoff_is_over(void **state) {
  (void)state;
  struct queue *queue = queue_find(&queues, "mail");
  queue_set_pause(queue, 0);
  queue->backoff_until_ms = clock_ms() + 400;
  fall_idle();
  pass_ms(400);
  expect_asked("");
  pass_ms(1);
  expect_asked("c");
}

static void a_drain_ends_when_a_sweep_of_the_last_hold_finds_nothing(void **state) {
  (void)state;
  options.drain = true;
  all_sleep = false;
  find_nothing(true);
  expect_asked("");
  all_sleep = true;
  find_nothing(false);
  expect_asked("s");
  find_nothing(true);
  expect_asked("d");
}

/* The other hold may have given jobs back after that sweep had passed them. */
static void a_drain_sweeps_again_if_the_last_sweep_began_before_all_holds_slept(void **state) {
  (void)state;
  options.drain = true;
  find_nothing(true);
  expect_asked("s");
  wakeup_found(wakeup);
  find_nothing(true);
  expect_asked("s");
  find_nothing(true);
  expect_asked("d");
}

static void a_drain_does_not_end_while_a_queue_that_backs_off_has_a_due_job(void **state) {
  (void)state;
  options.drain = true;
  wakeup_slept(wakeup, &(struct idle_info){.complete = true, .swept = true, .due_shut = true, .wait_ms = -1});
  expect_asked("");
}

static void a_drain_ends_when_all_queues_are_paused(void **state) {
  (void)state;
  struct queue *queue = queue_find(&queues, "mail");
  options.drain = true;
  queue_set_pause(queue, 0);
  one_sleeps = false;
  wakeup_slept(wakeup, &(struct idle_info){.wait_ms = -1});
  expect_asked("");
  all_sleep = false;
  queue_set_pause(queue, PAUSED_FOR_EVER_MS);
  wakeup_steered(wakeup);
  expect_asked("");
  all_sleep = true;
  pass_ms(500);
  expect_asked("d");
}

static void a_pause_ends_by_itself_although_no_hold_may_claim_meanwhile(void **state) {
  (void)state;
  struct queue *queue = queue_find(&queues, "mail");
  fall_idle();
  one_sleeps = false;
  queue_set_pause(queue, clock_ms() + 300);
  wakeup_steered(wakeup);
  one_sleeps = true;
  pass_ms(300);
  expect_asked("");
  pass_ms(1);
  expect_asked("c");
}

/* ── with peers ── */

/* Lets the worker sleep among many peers, long after its last job. */
static void sleep_among_peers(void) {
  wakeup_set_shared(wakeup, true);
  fall_idle();
  pass_ms(1000);
  expect_asked("");
}

/* A hold has looked since the last ring, and found nothing at all. */
static void find_nothing_since_the_ring(bool due_locked) {
  wakeup_slept(wakeup,
               &(struct idle_info){
                   .complete = true, .swept = true, .due_locked = due_locked, .wait_ms = -1, .ring = sweep_state.ring});
}

static void a_worker_that_looks_first_sweeps_and_answers(void **state) {
  (void)state;
  sleep_among_peers();
  wakeup_rung_by(wakeup, 7, 0);
  expect_asked("c");
  find_nothing(false);
  expect_asked("s");
  find_nothing_since_the_ring(false);
  expect_asked("a");
  find_nothing_since_the_ring(false); /* once */
  pass_ms(1000);
  expect_asked("");
}

static void a_worker_that_looks_late_does_so_unless_the_ring_is_answered(void **state) {
  (void)state;
  sleep_among_peers();
  wakeup_rung_by(wakeup, 7, 30);
  pass_ms(29);
  expect_asked("");
  wakeup_answered(wakeup, 7);
  pass_ms(1000);
  expect_asked("");
  wakeup_rung_by(wakeup, 8, 30);
  wakeup_answered(wakeup, 7); /* late: the answerer may not have seen the jobs of ring 8 */
  pass_ms(29);
  expect_asked("");
  pass_ms(1);
  expect_asked("c");
  find_nothing(false);
  find_nothing_since_the_ring(false);
  expect_asked("sa");
}

static void the_earliest_of_several_waits_counts_and_only_an_answer_to_the_last_ring(void **state) {
  (void)state;
  sleep_among_peers();
  wakeup_rung_by(wakeup, 7, 30);
  pass_ms(20);
  wakeup_rung_by(wakeup, 8, 50);
  wakeup_answered(wakeup, 7);
  pass_ms(10);
  expect_asked("c");
  find_nothing(false);
  wakeup_rung_by(wakeup, 9, 30);
  wakeup_answered(wakeup, 9);
  expect_asked("s");
  pass_ms(1000);
  expect_asked("");
}

static void a_look_from_before_the_ring_is_no_answer(void **state) {
  (void)state;
  sleep_among_peers();
  wakeup_rung_by(wakeup, 7, 30);
  find_nothing(true);
  expect_asked("");
  pass_ms(30);
  expect_asked("c");
}

static void a_due_job_that_is_locked_is_watched_by_the_worker_that_answers(void **state) {
  (void)state;
  sleep_among_peers();
  wakeup_rung_by(wakeup, 7, 0);
  find_nothing(false);
  find_nothing_since_the_ring(true);
  expect_asked("csa");
  pass_ms(500);
  expect_asked("s");
}

static void a_worker_does_not_answer_while_it_may_have_locked_the_job_itself(void **state) {
  (void)state;
  sleep_among_peers();
  wakeup_rung_by(wakeup, 7, 0);
  wakeup_found(wakeup);
  find_nothing_since_the_ring(true); /* another hold of the same worker */
  expect_asked("c");
  find_nothing_since_the_ring(false);
  expect_asked("a");
}

static void a_worker_does_not_answer_for_queues_that_it_has_paused(void **state) {
  (void)state;
  sleep_among_peers();
  wakeup_rung_by(wakeup, 7, 0);
  wakeup_slept(wakeup,
               &(struct idle_info){.complete = true, .swept = true, .due_shut = true, .wait_ms = -1, .ring = 7});
  expect_asked("c");
}

static void a_busy_worker_looks_when_it_is_free_and_the_wait_is_over(void **state) {
  (void)state;
  sleep_among_peers();
  one_sleeps = false;
  wakeup_rung_by(wakeup, 7, 30);
  pass_ms(30);
  expect_asked("");
  one_sleeps = true;
  find_nothing(false);
  expect_asked("c");
}

static void a_late_look_that_finds_jobs_makes_the_worker_look_at_once_until_it_finds_none(void **state) {
  (void)state;
  sleep_among_peers();
  wakeup_rung_by(wakeup, 7, 30);
  pass_ms(30);
  wakeup_found(wakeup);
  expect_asked("c");
  find_nothing_since_the_ring(false);
  expect_asked("a");
  pass_ms(1000);
  wakeup_rung_by(wakeup, 8, 30);
  expect_asked("c");
  find_nothing(false);
  find_nothing_since_the_ring(false);
  expect_asked("sa");
  pass_ms(1000);
  wakeup_rung_by(wakeup, 9, 30);
  expect_asked("");
}

static void a_single_job_among_peers_leaves_the_flags_up(void **state) {
  (void)state;
  sleep_among_peers();
  wakeup_rung_by(wakeup, 7, 0);
  wakeup_found(wakeup);
  expect_asked("c");
  find_nothing(false);
  expect_asked("s");
  find_nothing_since_the_ring(false);
  expect_asked("a");
  pass_ms(1000);
  expect_asked("");
}

static void a_second_job_lowers_them_and_so_does_a_long_one(void **state) {
  (void)state;
  sleep_among_peers();
  wakeup_rung_by(wakeup, 7, 0);
  wakeup_found(wakeup);
  pass_ms(5);
  expect_asked("c");
  wakeup_found(wakeup);
  expect_asked("D");
  pass_ms(60);
  asked[0] = '\0';
  find_nothing(false);
  wakeup_raised(wakeup, true);
  find_nothing(true);
  expect_asked("Us");
  one_sleeps = false;
  pass_ms(1000);
  wakeup_rung_by(wakeup, 8, 0);
  wakeup_found(wakeup);
  pass_ms(49);
  expect_asked("");
  pass_ms(1);
  expect_asked("D");
}

static void a_worker_that_has_room_again_leaves_its_flags_up_and_sweeps_500_ms_later(void **state) {
  (void)state;
  fall_idle();
  pass_ms(1000);
  wakeup_found(wakeup);
  find_nothing(false);
  pass_ms(100);
  wakeup_found(wakeup);
  find_nothing(false);
  pass_ms(399);
  expect_asked("");
  pass_ms(1);
  expect_asked("s");
  find_nothing(true);
  wakeup_rung(wakeup);
  expect_asked("c");
  wakeup_found(wakeup);
  expect_asked("D");
}

/* The time when the job runs again is in the database only. */
static void a_job_that_is_to_run_again_makes_it_sweep(void **state) {
  (void)state;
  fall_idle();
  wakeup_found(wakeup);
  wakeup_rescheduled(wakeup);
  find_nothing(false);
  expect_asked("s");
}

static void a_worker_that_was_stopped_wakes_no_hold(void **state) {
  (void)state;
  fall_idle();
  wakeup_stop(wakeup);
  wakeup_rung(wakeup);
  wakeup_more(wakeup);
  wakeup_raised(wakeup, true);
  find_nothing(false);
  pass_ms(2 * POLL_MS);
  expect_asked("");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(after_a_job_claims_follow_every_few_ms_for_50_ms_and_then_the_flags_go_up),
      TEST(a_worker_without_jobs_sweeps_once_and_sleeps_for_the_polling_interval),
      TEST(a_ring_wakes_a_worker_that_sleeps),
      TEST(a_ring_whose_job_is_not_found_is_followed_by_a_sweep),
      TEST(a_ring_while_every_hold_is_busy_is_answered_by_the_next_that_is_not),
      TEST(an_incomplete_look_is_followed_by_another),
      TEST(while_an_enqueue_is_in_flight_the_worker_looks_after_waits_that_grow_to_250_ms),
      TEST(a_worker_that_cannot_hear_a_ring_sweeps_and_sleeps),
      TEST(without_a_doorbell_it_sweeps_and_sleeps),
      TEST(a_sweep_waits_until_it_may_be_made),
      TEST(a_job_that_falls_due_is_claimed_then),
      TEST(a_due_job_that_another_session_holds_is_looked_for_after_500_ms),
      TEST(a_queue_that_backs_off_is_asked_when_its_backoff_is_over),
      TEST(a_drain_ends_when_a_sweep_of_the_last_hold_finds_nothing),
      TEST(a_drain_sweeps_again_if_the_last_sweep_began_before_all_holds_slept),
      TEST(a_drain_does_not_end_while_a_queue_that_backs_off_has_a_due_job),
      TEST(a_drain_ends_when_all_queues_are_paused),
      TEST(a_pause_ends_by_itself_although_no_hold_may_claim_meanwhile),
      TEST(a_worker_that_looks_first_sweeps_and_answers),
      TEST(a_worker_that_looks_late_does_so_unless_the_ring_is_answered),
      TEST(the_earliest_of_several_waits_counts_and_only_an_answer_to_the_last_ring),
      TEST(a_look_from_before_the_ring_is_no_answer),
      TEST(a_due_job_that_is_locked_is_watched_by_the_worker_that_answers),
      TEST(a_worker_does_not_answer_while_it_may_have_locked_the_job_itself),
      TEST(a_worker_does_not_answer_for_queues_that_it_has_paused),
      TEST(a_busy_worker_looks_when_it_is_free_and_the_wait_is_over),
      TEST(a_late_look_that_finds_jobs_makes_the_worker_look_at_once_until_it_finds_none),
      TEST(a_single_job_among_peers_leaves_the_flags_up),
      TEST(a_second_job_lowers_them_and_so_does_a_long_one),
      TEST(a_worker_that_has_room_again_leaves_its_flags_up_and_sweeps_500_ms_later),
      TEST(a_job_that_is_to_run_again_makes_it_sweep),
      TEST(a_worker_that_was_stopped_wakes_no_hold),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
