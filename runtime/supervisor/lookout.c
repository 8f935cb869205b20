#include "lookout.h"

#include <stdlib.h>

#include "clock.h"
#include "memory.h"

/* A worker that found jobs this long ago does not sleep: who enqueues would have to ring all the time. */
enum { LINGER_MS = 50, LINGER_LEAST_MS = 2, LINGER_MOST_MS = 5 };

/* Where claims bring jobs in such quick succession, looking less often brings more of them at a time. */
enum { BUSY_MS = 20, LINGER_BUSY_MS = 10 };

/* How often to look while an enqueue is in flight. */
enum { FLIGHT_LEAST_MS = 2, FLIGHT_MOST_MS = 250 };

/* How soon to look again for a due job that somebody else holds: he may die. */
enum { LOCKED_LOOK_MS = 500 };

enum lookout_state { STATE_LINGERING, STATE_RAISING, STATE_WATCHING, STATE_ASLEEP, STATE_STOPPED };

struct lookout {
  const struct options *options;
  const struct queue_list *queues;
  const struct sweep *sweep;
  const struct lookout_events *events;
  void *owner;
  enum lookout_state state;
  int64_t found_ms; /* when a claim last brought jobs */
  int64_t wait_ms;  /* the next wait: while lingering, or while an enqueue is in flight */
  bool clear;       /* watching: none is */
  bool again;       /* somebody rang while every hold was busy */
  uv_timer_t timer;
  int64_t claim_at_ms, sweep_at_ms, probe_at_ms; /* what the timer is for; INT64_MAX: not for that */
};

static void on_timer(uv_timer_t *timer);

struct lookout *lookout_new(uv_loop_t *loop, const struct options *options, const struct queue_list *queues,
                            const struct sweep *sweep, const struct lookout_events *events, void *owner) {
  struct lookout *lookout = memory_new(sizeof *lookout);
  *lookout = (struct lookout){.options = options,
                              .queues = queues,
                              .sweep = sweep,
                              .events = events,
                              .owner = owner,
                              .wait_ms = LINGER_LEAST_MS};
  lookout->claim_at_ms = lookout->sweep_at_ms = lookout->probe_at_ms = INT64_MAX;
  uv_timer_init(loop, &lookout->timer);
  lookout->timer.data = lookout;
  return lookout;
}

static void free_lookout(uv_handle_t *timer) {
  free(timer->data);
}

void lookout_free(struct lookout *lookout) {
  if (lookout)
    uv_close((uv_handle_t *)&lookout->timer, free_lookout);
}

void lookout_stop(struct lookout *lookout) {
  lookout->state = STATE_STOPPED;
  uv_timer_stop(&lookout->timer);
}

/* ── the timer ── */

static void set_timer(struct lookout *lookout) {
  int64_t at_ms = lookout->claim_at_ms;
  if (lookout->sweep_at_ms < at_ms)
    at_ms = lookout->sweep_at_ms;
  if (lookout->probe_at_ms < at_ms)
    at_ms = lookout->probe_at_ms;
  if (at_ms == INT64_MAX || lookout->state == STATE_STOPPED)
    return;
  int64_t wait_ms = at_ms - clock_ms();
  uv_update_time(lookout->timer.loop);
  uv_timer_start(&lookout->timer, on_timer, wait_ms > 0 ? (uint64_t)wait_ms : 0, 0);
}

/* One of the times is to be at the latest in `wait_ms`. */
static void in_time(struct lookout *lookout, int64_t *at_ms, int64_t wait_ms) {
  int64_t then_ms = clock_ms() + wait_ms;
  if (then_ms >= *at_ms)
    return;
  *at_ms = then_ms;
  set_timer(lookout);
}

/* The end of the earliest pause, in ms from now; -1: no queue is paused. */
static int64_t pause_left_ms(const struct lookout *lookout) {
  int64_t now_ms = clock_ms(), least = -1;
  for (const struct queue *queue = lookout->queues->first; queue; queue = queue->next)
    if (queue_is_paused(queue, now_ms) && (least < 0 || queue->paused_until_ms - now_ms < least))
      least = queue->paused_until_ms - now_ms;
  return least;
}

/* What holds in any state: the polling interval, and the end of a pause. */
static void rest(struct lookout *lookout) {
  int64_t pause_ms = pause_left_ms(lookout);
  in_time(lookout, &lookout->sweep_at_ms, lookout->options->poll_interval_ms);
  if (pause_ms >= 0)
    in_time(lookout, &lookout->claim_at_ms, pause_ms + 1);
}

static bool wake(struct lookout *lookout, bool sweep) {
  return lookout->state != STATE_STOPPED && lookout->events->wake(lookout->owner, sweep);
}

/* ── the way to sleep ── */

/* A sweep, as soon as there may be one. When no hold is free for it, the next that is comes back to here. */
static void sweep(struct lookout *lookout) {
  int64_t wait_ms = sweep_wait_ms(lookout->sweep, clock_ms());
  if (wait_ms > 0)
    in_time(lookout, &lookout->sweep_at_ms, wait_ms);
  else
    wake(lookout, true);
}

static void watch(struct lookout *lookout, bool clear) {
  lookout->state = STATE_WATCHING;
  lookout->clear = clear;
  sweep(lookout);
}

static void raise_flags(struct lookout *lookout) {
  lookout->state = STATE_RAISING;
  lookout->wait_ms = FLIGHT_LEAST_MS;
  if (!lookout->events->flag(lookout->owner, true))
    watch(lookout, true);
}

/* Lingering, and nothing was found. */
static void linger(struct lookout *lookout) {
  if (clock_ms() - lookout->found_ms >= LINGER_MS) {
    raise_flags(lookout);
    return;
  }
  in_time(lookout, &lookout->claim_at_ms, lookout->wait_ms);
  if (lookout->wait_ms * 2 <= LINGER_MOST_MS)
    lookout->wait_ms *= 2;
}

/* A sweep has found nothing. */
static void fall_asleep(struct lookout *lookout) {
  if (lookout->clear) {
    lookout->state = STATE_ASLEEP;
    return;
  }
  in_time(lookout, &lookout->probe_at_ms, lookout->wait_ms);
  if (lookout->wait_ms < FLIGHT_MOST_MS)
    lookout->wait_ms = lookout->wait_ms * 2 < FLIGHT_MOST_MS ? lookout->wait_ms * 2 : FLIGHT_MOST_MS;
}

/* The last sweep, when nothing is left to be done, need not be paid for. */
static void drain(struct lookout *lookout, const struct hold_look *look) {
  if (!look->swept && lookout->events->all_asleep(lookout->owner))
    wake(lookout, true);
  else if (!look->swept)
    sweep(lookout);
  else if (!look->due_paused && lookout->events->all_asleep(lookout->owner))
    lookout->events->drained(lookout->owner);
}

static void go_on(struct lookout *lookout, const struct hold_look *look) {
  switch (lookout->state) {
  case STATE_LINGERING:
    linger(lookout);
    break;
  case STATE_WATCHING:
    if (look->swept)
      fall_asleep(lookout);
    else
      sweep(lookout);
    break;
  case STATE_ASLEEP:
    if (!look->swept) /* who rang has had his job taken by another worker, or it lies below the floor */
      watch(lookout, true);
    break;
  default:
    break;
  }
}

void lookout_slept(struct lookout *lookout, const struct hold_look *look) {
  bool again = lookout->again || !look->complete;
  if (lookout->state == STATE_STOPPED)
    return;
  lookout->again = false;
  rest(lookout);
  if (look->wait_ms >= 0)
    in_time(lookout, &lookout->claim_at_ms, look->wait_ms);
  if (look->due_locked)
    in_time(lookout, &lookout->sweep_at_ms, LOCKED_LOOK_MS);
  if (again && wake(lookout, false))
    return;
  if (lookout->options->drain)
    drain(lookout, look);
  else
    go_on(lookout, look);
}

/* ── what happens meanwhile ── */

void lookout_found(struct lookout *lookout) {
  if (lookout->state == STATE_STOPPED)
    return;
  if (lookout->state != STATE_LINGERING)
    lookout->events->flag(lookout->owner, false);
  int64_t now_ms = clock_ms();
  lookout->state = STATE_LINGERING;
  lookout->wait_ms = now_ms - lookout->found_ms < BUSY_MS ? LINGER_BUSY_MS : LINGER_LEAST_MS;
  lookout->found_ms = now_ms;
  lookout->claim_at_ms = lookout->probe_at_ms = INT64_MAX;
  if (!lookout->options->drain) /* a hold that sleeps does not say so again */
    in_time(lookout, &lookout->claim_at_ms, lookout->wait_ms);
}

void lookout_more(struct lookout *lookout) {
  wake(lookout, false);
}

void lookout_raised(struct lookout *lookout, bool clear) {
  if (lookout->state != STATE_LINGERING && lookout->state != STATE_STOPPED)
    watch(lookout, clear);
}

void lookout_rung(struct lookout *lookout) {
  if (!wake(lookout, false))
    lookout->again = true;
}

static bool take(int64_t *at_ms, int64_t now_ms) {
  if (*at_ms > now_ms)
    return false;
  *at_ms = INT64_MAX;
  return true;
}

static void on_timer(uv_timer_t *timer) {
  struct lookout *lookout = timer->data;
  int64_t now_ms = clock_ms();
  bool claim_now = take(&lookout->claim_at_ms, now_ms), sweep_now = take(&lookout->sweep_at_ms, now_ms);
  bool probe_now = take(&lookout->probe_at_ms, now_ms);
  if (probe_now && lookout->state == STATE_WATCHING)
    lookout->events->probe(lookout->owner);
  if (sweep_now)
    sweep(lookout);
  else if (claim_now)
    wake(lookout, false);
  rest(lookout);
  set_timer(lookout);
}
