/*
 * The executor's end of the socket: any bytes go through the code that reads a supervisor's frames and keeps the tasks,
 * up to the call of the script, which player.h replaces: no Lua, no thread, no socket. The outcome of each job is
 * watched by a ledger of its own.
 */
#include <sys/resource.h>

#include "fake_clock.h"
#include "ledger.h"
#include "pieces.h"
#include "player.h"
#include "task.h"

static int keep_limit(const struct rlimit *limit) {
  return limit->rlim_cur == limit->rlim_max ? 0 : -1;
}

static bool watched_serve(struct task_list *list, struct frame *frame);
static bool watched_add(struct task_list *list, struct frame *frame);
static void watched_recall(struct task_list *list, uint32_t batch, uint32_t queue);
static void watched_cancel(struct task_list *list, uint32_t batch, uint32_t index);
static bool watched_step(struct task_list *list);
static void watched_close(uv_loop_t *loop);

/* Included, because its functions that take frames are static. This test replaces the limit that it would set. */
#define setrlimit(resource, limit) keep_limit(limit)
#define task_list_serve watched_serve
#define task_list_add watched_add
#define task_list_recall watched_recall
#define task_list_cancel watched_cancel
#define task_list_step watched_step
#define uv_loop_close watched_close
#include "executor.c"
#include "executor_frames.c"
#undef setrlimit
#undef task_list_serve
#undef task_list_add
#undef task_list_recall
#undef task_list_cancel
#undef task_list_step
#undef uv_loop_close

/* Batches up to this one have been revoked when it starts: their jobs may not begin. */
enum { REVOKED = 3 };

/* A step takes longer than an iteration of the loop, so that other tasks wait while more frames come in. */
enum { STEP_US = TURN_US };

/* In the end, all that is waited for comes every so many turns, and turns of which nothing comes take so long. */
enum { ALL_TURNS = 8, QUIET_US = 3 * IDLE_MS / 8 * 1000 };

static struct shared_page page;
static bool serves; /* SERVE has been taken */

/* ── what the executor does with frames ── */

static bool watched_serve(struct task_list *list, struct frame *frame) {
  struct message_serve serve;
  struct frame copy = *frame;
  bool right = !serves && message_get_serve(&copy, &serve);
  bool taken = task_list_serve(list, frame);
  EXPECT(taken == (right && serve.queue_count == PLAYER_QUEUES));
  if (taken)
    ledger_serve(&serve);
  if (right)
    message_free_serve(&serve);
  serves = serves || taken;
  return taken;
}

static bool watched_add(struct task_list *list, struct frame *frame) {
  struct message_jobs jobs;
  struct frame copy = *frame, again = *frame;
  bool right = serves && message_get_jobs(&copy, &jobs) && jobs.last_queue < PLAYER_QUEUES;
  bool taken = task_list_add(list, frame);
  EXPECT(taken == right);
  if (taken)
    ledger_add(again);
  return taken;
}

static void watched_recall(struct task_list *list, uint32_t batch, uint32_t queue) {
  task_list_recall(list, batch, queue);
  ledger_recall(batch, queue);
}

static void watched_cancel(struct task_list *list, uint32_t batch, uint32_t index) {
  ledger_cancel(batch, index);
  task_list_cancel(list, batch, index);
  ledger_check_cancelled();
}

static bool watched_step(struct task_list *list) {
  uint32_t number;
  bool work = ledger_has_work();
  bool worked = task_list_step(list);
  EXPECT(worked == work && atomic_load(&page.all_waiting) == !work);
  EXPECT(atomic_load(&page.runs) == 0 && !task_list_current(list, &number));
  EXPECT(task_list_count_waiting(list) == ledger_waits());
  fake_clock_advance(STEP_US);
  return worked;
}

/* Nothing was left open. */
static void watched_close(uv_loop_t *loop) {
  EXPECT(uv_loop_close(loop) == 0);
}

/* ── the outbox: the supervisor's readers must accept the frames of the executor ── */

static struct frame frame_of(uint8_t type, const struct buffer *fields) {
  static const unsigned char none[1];
  const unsigned char *at = fields->length > 0 ? fields->bytes : none;
  return (struct frame){.type = type, .at = at, .end = at + fields->length};
}

void outbox_add_outcome(struct outbox *outbox, const struct buffer *fields) {
  struct frame frame = frame_of(FRAME_OUTCOMES, fields);
  struct job_outcome outcome;
  (void)outbox;
  EXPECT(message_get_outcome(&frame, &outcome) && frame_end_ok(&frame));
  ledger_outcome(&outcome);
}

static bool is_understood(struct frame *frame) {
  struct message_ready ready;
  struct message_log log;
  const char *message;
  size_t length;
  switch (frame->type) {
  case FRAME_READY:
    if (!message_get_ready(frame, &ready))
      return false;
    message_free_ready(&ready);
    return true;
  case FRAME_BROKEN:
    return message_get_broken(frame, &message, &length) && length == ERROR_TEXT_MOST + 1;
  case FRAME_LOG:
    return message_get_log(frame, &log) && log.length <= ERROR_TEXT_MOST + 1;
  default:
    return frame->type == FRAME_STOP && frame_end_ok(frame);
  }
}

void outbox_send(struct outbox *outbox, uint8_t type, const struct buffer *fields) {
  struct frame frame = frame_of(type, fields);
  (void)outbox;
  EXPECT(is_understood(&frame));
}

struct outbox *outbox_new(int socket) {
  (void)socket;
  return NULL;
}

void outbox_flush(struct outbox *outbox) {
  (void)outbox;
}

void outbox_free(struct outbox *outbox) {
  (void)outbox;
}

/* ── an executor's life ── */

/* A turn of the loop: timers, then the executor's own turn. */
static void turn(struct executor *e, bool all) {
  e->pressure.limit = 0; /* the ledger does not know of memory */
  player_turn(all);
  int64_t now_us = clock_us();
  uv_run(&e->loop, UV_RUN_NOWAIT);
  ledger_check_limits(now_us);
  EXPECT(!ledger_has_work() || uv_is_active((uv_handle_t *)&e->turn)); /* it does not sleep while it has work */
}

/* A turn passes between any two pieces. */
static bool take(void *context) {
  struct executor *e = context;
  uv_update_time(&e->loop); /* as when the loop has read */
  take_frames(e);
  if (!e->leaving)
    turn(e, false);
  return !e->leaving;
}

/* Every job has an outcome in the end, when all that is waited for comes. Till then, and then, there are quiet times.
 */
static void finish(struct executor *e) {
  bool left = true;
  for (int turns = 0; !e->leaving && left; turns++) {
    EXPECT(turns < 1000000);
    left = ledger_left() > 0;
    if (!ledger_has_work())
      fake_clock_advance(left ? QUIET_US : (int64_t)IDLE_MS * 1000);
    turn(e, turns % ALL_TURNS == ALL_TURNS - 1);
  }
  uv_run(&e->loop, UV_RUN_NOWAIT); /* executor_leave() has stopped the loop */
}

static void start(struct executor *e) {
  *e = (struct executor){.page = &page, .pressure.statm = -1};
  page = (struct shared_page){.lanes = {{.revoked = REVOKED}, {.revoked = REVOKED}}};
  serves = false;
  fake_clock_reset();
  ledger_open(&page);
  player_open(&page);
  uv_loop_init(&e->loop);
  uv_pipe_init(&e->loop, &e->socket, 0);
  uv_idle_init(&e->loop, &e->turn);
  uv_timer_init(&e->loop, &e->idle);
  e->socket.data = e->turn.data = e->idle.data = e;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length) {
  static struct executor executor;
  start(&executor);
  pieces_round_trip(input, length);
  pieces_feed(input, length, &executor.in, take, &executor);
  finish(&executor);
  tear_down(&executor);
  player_close();
  ledger_close();
  return 0;
}
