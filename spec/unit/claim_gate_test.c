#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <uv.h>

#include "claim_gate.h"

/* The tests use holds only as distinct pointers, and decide what each hold does in the gate. */
static char names[4];
#define HOLD(i) ((struct hold *)&names[i])

static struct claim_gate *gate;
static char woken[16];
static int woken_count;
static bool takes[4]; /* whether a hold that is woken claims */

static bool wake(struct hold *hold) {
  int i = (int)((char *)hold - names);
  woken[woken_count++] = (char)('0' + i);
  return takes[i] && claim_gate_enter(gate, hold);
}

static uv_loop_t loop;

static int set_up(void **state) {
  (void)state;
  uv_loop_init(&loop);
  gate = claim_gate_new(&loop, wake);
  woken_count = 0;
  for (int i = 0; i < 4; i++)
    takes[i] = true;
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  claim_gate_free(gate);
  uv_run(&loop, UV_RUN_DEFAULT);
  return uv_loop_close(&loop);
}

static void assert_woken(const char *expected) {
  woken[woken_count] = '\0';
  assert_string_equal(woken, expected);
}

static void turns_are_taken_in_the_order_they_were_asked_for(void **state) {
  (void)state;
  assert_true(claim_gate_enter(gate, HOLD(0)));
  assert_false(claim_gate_enter(gate, HOLD(1)));
  assert_false(claim_gate_enter(gate, HOLD(2)));
  claim_gate_leave(gate, HOLD(0));
  assert_woken("1");
  claim_gate_leave(gate, HOLD(1));
  assert_woken("12");
  claim_gate_leave(gate, HOLD(2));
  assert_true(claim_gate_enter(gate, HOLD(3)));
}

static void a_hold_may_claim_again_in_its_own_turn(void **state) {
  (void)state;
  assert_true(claim_gate_enter(gate, HOLD(0)));
  assert_true(claim_gate_enter(gate, HOLD(0)));
}

static void who_has_no_use_for_it_passes_it_on(void **state) {
  (void)state;
  takes[1] = false;
  claim_gate_enter(gate, HOLD(0));
  claim_gate_enter(gate, HOLD(1));
  claim_gate_enter(gate, HOLD(2));
  claim_gate_leave(gate, HOLD(0));
  assert_woken("12");
  assert_false(claim_gate_enter(gate, HOLD(3)));
}

static void only_the_one_whose_turn_it_is_can_end_it(void **state) {
  (void)state;
  claim_gate_enter(gate, HOLD(0));
  claim_gate_enter(gate, HOLD(1));
  claim_gate_leave(gate, HOLD(1));
  claim_gate_leave(gate, HOLD(2));
  assert_woken("");
}

static void who_leaves_is_not_waited_for(void **state) {
  (void)state;
  claim_gate_enter(gate, HOLD(0));
  claim_gate_enter(gate, HOLD(1));
  claim_gate_enter(gate, HOLD(2));
  claim_gate_withdraw(gate, HOLD(1));
  claim_gate_withdraw(gate, HOLD(0));
  assert_woken("2");
}

static void a_claim_without_an_answer_for_a_second_has_had_its_turn(void **state) {
  (void)state;
  claim_gate_enter(gate, HOLD(0));
  claim_gate_enter(gate, HOLD(1));
  uint64_t began = uv_now(&loop); /* the loop's own time, which is what timers go by */
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_woken("1");
  assert_in_range(uv_now(&loop) - began, 1000, 10000);
  claim_gate_leave(gate, HOLD(0)); /* the answer comes after all */
  assert_false(claim_gate_enter(gate, HOLD(2)));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(turns_are_taken_in_the_order_they_were_asked_for, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_hold_may_claim_again_in_its_own_turn, set_up, tear_down),
      cmocka_unit_test_setup_teardown(who_has_no_use_for_it_passes_it_on, set_up, tear_down),
      cmocka_unit_test_setup_teardown(only_the_one_whose_turn_it_is_can_end_it, set_up, tear_down),
      cmocka_unit_test_setup_teardown(who_leaves_is_not_waited_for, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_claim_without_an_answer_for_a_second_has_had_its_turn, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
