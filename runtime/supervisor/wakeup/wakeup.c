#include "wakeup.h"

#include <stdlib.h>

#include "clock.h"
#include "doorbell.h"
#include "growing_wait.h"
#include "memory.h"

/* A worker lingers for this long after it found jobs. If it slept at once, every enqueue would have to ring. */
enum { LINGER_MS = 50, LINGER_LEAST_MS = 2, LINGER_MOST_MS = 4 };

/* If two claims brought jobs within BUSY_MS, the worker looks less often, and finds more jobs at a time. */
enum { BUSY_MS = 20, LINGER_BUSY_MS = 10 };

/* The least time between two rings that bring no job. */
enum { RING_EVERY_MS = 10 };

/* A worker that finds jobs and has many peers keeps its flags up, if it has found none for LINGER_MS; but only this
 * long: while it is busy, no enqueue must ring for it. */
enum { ANSWERING_MS = 50 };

/* A worker that finds jobs only because it has room again keeps its flags up, and looks for others after this wait:
 * jobs that do not ring, such as those that another worker has given back. */
enum { ROOM_LOOK_MS = 500 };

/* How often to ask whether a transaction that has enqueued is still open. */
enum { FLIGHT_LEAST_MS = 2, FLIGHT_MOST_MS = 250 };

/* The wait before looking again for a due job that another session has locked: that session may end. */
enum { LOCKED_LOOK_MS = 500 };

/* With --drain: the wait before looking again while another worker sweeps. */
enum { DENIED_LOOK_MS = 50 };

/* With --drain: the wait before looking again whether the jobs of the other holds have ended. */
enum { DRAIN_LOOK_MS = 500 };

/* See wakeup.h. `wait_ms` is valid in the first three states, `clear` in WAKEUP_CONFIRMING. */
enum wakeup_state {
  WAKEUP_LINGERING,
  WAKEUP_RAISING,
  WAKEUP_CONFIRMING,
  WAKEUP_ASLEEP,
  WAKEUP_ANSWERING, /* `claim_at_ms` is when the flags go down */
  WAKEUP_STOPPED,
};

struct wakeup {
  const struct options *options;
  const struct queue_list *queues;
  struct sweep *sweep;
  const struct wakeup_events *events;
  void *owner;
  struct doorbell *doorbell; /* NULL: there is none */
  enum wakeup_state state;
  int64_t found_ms; /* when a claim last brought jobs */
  int64_t rung_ms;  /* when the doorbell last rang; 0: never */
  int64_t wait_ms;  /* the next wait: while lingering, or while a transaction that has enqueued is open */
  bool clear;       /* no transaction that has enqueued is open */
  bool again;       /* the doorbell rang while every hold was busy */
  bool shared;      /* not all workers look at once */
  int64_t ring;     /* the last ring with a number; 0: none, or it has been answered */
  int64_t heard_ms; /* when it rang */
  bool extra;       /* this worker looks although others were to look first */
  bool told;        /* since it fell asleep: a ring, a time, or an outcome of its own says that there may be jobs */
  bool last_sweep;  /* with --drain: all holds were idle when the latest sweep began, and nothing was found since */
  bool eager;       /* such a look has found jobs: most others are busy */
  uv_timer_t timer;
  int64_t claim_at_ms, sweep_at_ms, probe_at_ms; /* when the timer does each; INT64_MAX: never */
  int64_t late_at_ms;                            /* when this worker looks for the jobs of `ring`; INT64_MAX: never */
};

static void on_timer(uv_timer_t *timer);

struct wakeup *wakeup_new(uv_loop_t *loop, const struct options *options, const struct queue_list *queues,
                          struct sweep *sweep, const struct wakeup_events *events, void *owner) {
  struct wakeup *wakeup = memory_new(sizeof *wakeup);
  *wakeup = (struct wakeup){.options = options,
                            .queues = queues,
                            .sweep = sweep,
                            .events = events,
                            .owner = owner,
                            .wait_ms = LINGER_LEAST_MS};
  wakeup->claim_at_ms = wakeup->sweep_at_ms = wakeup->probe_at_ms = wakeup->late_at_ms = INT64_MAX;
  uv_timer_init(loop, &wakeup->timer);
  wakeup->timer.data = wakeup;
  return wakeup;
}

void wakeup_set_doorbell(struct wakeup *wakeup, struct doorbell *doorbell) {
  wakeup->doorbell = doorbell;
}

static void free_wakeup(uv_handle_t *timer) {
  free(timer->data);
}

void wakeup_free(struct wakeup *wakeup) {
  if (wakeup)
    uv_close((uv_handle_t *)&wakeup->timer, free_wakeup);
}

void wakeup_stop(struct wakeup *wakeup) {
  wakeup->state = WAKEUP_STOPPED;
  uv_timer_stop(&wakeup->timer);
}

/* ── the timer ── */

static void set_timer(struct wakeup *wakeup) {
  int64_t at_ms = wakeup->claim_at_ms;
  if (wakeup->sweep_at_ms < at_ms)
    at_ms = wakeup->sweep_at_ms;
  if (wakeup->probe_at_ms < at_ms)
    at_ms = wakeup->probe_at_ms;
  if (wakeup->late_at_ms < at_ms)
    at_ms = wakeup->late_at_ms;
  if (at_ms == INT64_MAX || wakeup->state == WAKEUP_STOPPED)
    return;
  int64_t wait_ms = at_ms - clock_ms();
  uv_update_time(wakeup->timer.loop);
  uv_timer_start(&wakeup->timer, on_timer, wait_ms > 0 ? (uint64_t)wait_ms : 0, 0);
}

/* Moves one of the times to `wait_ms` from now, unless it is earlier. */
static void do_within(struct wakeup *wakeup, int64_t *at_ms, int64_t wait_ms) {
  int64_t then_ms = clock_ms() + wait_ms;
  if (then_ms >= *at_ms)
    return;
  *at_ms = then_ms;
  set_timer(wakeup);
}

/* When the next queue opens that backs off or is paused, in ms from now; -1: none does. */
static int64_t pause_left_ms(const struct wakeup *wakeup) {
  int64_t now_ms = clock_ms(), least = -1;
  for (const struct queue *queue = wakeup->queues->first; queue; queue = queue->next) {
    int64_t wait_ms = queue_opens_in_ms(queue, now_ms);
    if (wait_ms >= 0 && (least < 0 || wait_ms < least))
      least = wait_ms;
  }
  return least;
}

/* Plans the events that may come in any state: the next poll, and the end of a pause or backoff. */
static void plan_poll(struct wakeup *wakeup) {
  int64_t pause_ms = pause_left_ms(wakeup);
  do_within(wakeup, &wakeup->sweep_at_ms, wakeup->options->poll_interval_ms);
  if (pause_ms >= 0)
    do_within(wakeup, &wakeup->claim_at_ms, pause_ms + 1);
}

static bool wake(struct wakeup *wakeup, bool sweep) {
  return wakeup->state != WAKEUP_STOPPED && wakeup->events->wake(wakeup->owner, sweep);
}

/* ── from the last job to sleep ── */

/* Sweeps as soon as a sweep may be made. If no hold is free for it, this is called again when a hold has nothing to
 * do. */
static void sweep(struct wakeup *wakeup) {
  int64_t wait_ms = sweep_wait_ms(wakeup->sweep, clock_ms());
  if (wait_ms > 0)
    do_within(wakeup, &wakeup->sweep_at_ms, wait_ms);
  else
    wake(wakeup, true);
}

static void confirm(struct wakeup *wakeup, bool clear) {
  wakeup->state = WAKEUP_CONFIRMING;
  wakeup->clear = clear;
  sweep(wakeup);
}

static void raise_flags(struct wakeup *wakeup) {
  wakeup->state = WAKEUP_RAISING;
  wakeup->wait_ms = FLIGHT_LEAST_MS;
  if (!wakeup->doorbell || !doorbell_flag(wakeup->doorbell, true))
    confirm(wakeup, true);
}

/* A claim found nothing while the worker lingers. */
static void linger(struct wakeup *wakeup) {
  if (clock_ms() - wakeup->found_ms >= LINGER_MS) {
    raise_flags(wakeup);
    return;
  }
  do_within(wakeup, &wakeup->claim_at_ms, wakeup->wait_ms);
  if (wakeup->wait_ms < LINGER_MOST_MS) /* not LINGER_BUSY_MS */
    wakeup->wait_ms = growing_wait_after(wakeup->wait_ms, LINGER_LEAST_MS, LINGER_MOST_MS);
}

/* A sweep has found nothing. */
static void fall_idle(struct wakeup *wakeup) {
  if (wakeup->clear) {
    wakeup->state = WAKEUP_ASLEEP;
    wakeup->told = false;
    return;
  }
  do_within(wakeup, &wakeup->probe_at_ms, wakeup->wait_ms);
  wakeup->wait_ms = growing_wait_after(wakeup->wait_ms, FLIGHT_LEAST_MS, FLIGHT_MOST_MS);
}

static bool are_all_paused(const struct wakeup *wakeup) {
  int64_t now_ms = clock_ms();
  for (const struct queue *queue = wakeup->queues->first; queue; queue = queue->next)
    if (!queue_is_paused(queue, now_ms))
      return false;
  return wakeup->queues->first != NULL;
}

/* If all queues are paused, no claim can tell that none of their jobs is due. The drain then ends when no job runs.
 * Returns whether it is so. */
static bool drain_paused(struct wakeup *wakeup) {
  if (!wakeup->options->drain || wakeup->state == WAKEUP_STOPPED || !are_all_paused(wakeup))
    return false;
  if (wakeup->events->all_idle(wakeup->owner))
    wakeup->events->drained(wakeup->owner);
  else
    do_within(wakeup, &wakeup->sweep_at_ms, DRAIN_LOOK_MS);
  return true;
}

static void sweep_at_last(struct wakeup *wakeup) {
  wakeup->last_sweep = wake(wakeup, true);
  if (!wakeup->last_sweep)
    do_within(wakeup, &wakeup->sweep_at_ms, DRAIN_LOOK_MS);
}

/* Once all holds are idle, a sweep does not have to wait for the limit on sweeps. Others may become idle without a
 * report, such as one that loses its session. The last sweep begins when all are idle: until then a hold may give jobs
 * back, or retry one at once, after the sweep of another hold has passed them. */
static void drain(struct wakeup *wakeup, const struct idle_info *idle) {
  bool is_last = wakeup->last_sweep;
  wakeup->last_sweep = false;
  if (drain_paused(wakeup))
    return;
  if (idle->denied)
    do_within(wakeup, &wakeup->claim_at_ms, DENIED_LOOK_MS);
  else if (!idle->swept && !wakeup->events->all_idle(wakeup->owner))
    sweep(wakeup);
  else if (idle->due_shut || !wakeup->events->all_idle(wakeup->owner))
    do_within(wakeup, &wakeup->sweep_at_ms, DRAIN_LOOK_MS);
  else if (idle->swept && is_last)
    wakeup->events->drained(wakeup->owner);
  else
    sweep_at_last(wakeup);
}

static void go_on(struct wakeup *wakeup, const struct idle_info *idle) {
  switch (wakeup->state) {
  case WAKEUP_LINGERING:
    linger(wakeup);
    break;
  case WAKEUP_CONFIRMING:
    if (idle->swept)
      fall_idle(wakeup);
    else
      sweep(wakeup);
    break;
  case WAKEUP_ANSWERING:
    wakeup->told = true;
    wakeup->state = WAKEUP_ASLEEP;
    /* fall through */
  case WAKEUP_ASLEEP:
    /* The doorbell rang, but another worker has the job, or it lies below the floor. */
    if (wakeup->told && !idle->swept)
      confirm(wakeup, true);
    wakeup->told = wakeup->told && !idle->swept;
    break;
  default:
    break;
  }
}

/* Tells the others that they need not look for the jobs of the last ring, if that is so. While another session has a
 * due job locked, this worker keeps looking for it; it would not if it has locked the job itself, and died. */
static void answer(struct wakeup *wakeup, const struct idle_info *idle) {
  bool all_seen = idle->swept && idle->complete && !idle->due_shut && idle->ring == wakeup->ring;
  bool may_be_own = idle->due_locked && wakeup->found_ms >= wakeup->heard_ms;
  if (!wakeup->shared || wakeup->ring == 0 || !all_seen || may_be_own)
    return;
  if (wakeup->doorbell)
    doorbell_answer(wakeup->doorbell, wakeup->ring);
  wakeup_answered(wakeup, wakeup->ring);
}

void wakeup_rescheduled(struct wakeup *wakeup) {
  wakeup->told = true;
}

void wakeup_slept(struct wakeup *wakeup, const struct idle_info *idle) {
  bool again = wakeup->again || !idle->complete;
  if (wakeup->state == WAKEUP_STOPPED)
    return;
  if (wakeup->state == WAKEUP_ANSWERING)
    wakeup->claim_at_ms = INT64_MAX;
  wakeup->again = false;
  wakeup->eager = wakeup->eager && !wakeup->extra;
  wakeup->extra = false;
  answer(wakeup, idle);
  plan_poll(wakeup);
  if (idle->wait_ms >= 0)
    do_within(wakeup, &wakeup->claim_at_ms, idle->wait_ms);
  if (idle->due_locked)
    do_within(wakeup, &wakeup->sweep_at_ms, LOCKED_LOOK_MS);
  if (again && wake(wakeup, false))
    return;
  if (wakeup->options->drain)
    drain(wakeup, idle);
  else
    go_on(wakeup, idle);
}

/* ── reports of the holds and the doorbell ── */

static void begin_lingering(struct wakeup *wakeup, int64_t wait_ms) {
  if (wakeup->state != WAKEUP_LINGERING && wakeup->doorbell)
    doorbell_flag(wakeup->doorbell, false);
  wakeup->state = WAKEUP_LINGERING;
  wakeup->wait_ms = wait_ms;
}

/* If the worker lowered its flags, it would have to look every few milliseconds, and an enqueue would ring for the
 * others all the same. */
static bool keeps_flags_up(const struct wakeup *wakeup, int64_t since_found_ms) {
  bool are_up = wakeup->state == WAKEUP_ASLEEP || (wakeup->state == WAKEUP_CONFIRMING && wakeup->clear);
  return wakeup->shared && are_up && since_found_ms >= LINGER_MS && !wakeup->options->drain;
}

/* Whether the worker has found jobs only because it has room for them again. An enqueue would still ring for it. */
static bool has_room_again(const struct wakeup *wakeup) {
  return wakeup->state == WAKEUP_ASLEEP && !wakeup->told && wakeup->doorbell && !wakeup->options->drain;
}

void wakeup_found(struct wakeup *wakeup) {
  if (wakeup->state == WAKEUP_STOPPED)
    return;
  int64_t now_ms = clock_ms(), since_found_ms = now_ms - wakeup->found_ms;
  wakeup->eager = wakeup->eager || wakeup->extra;
  wakeup->extra = false;
  wakeup->found_ms = now_ms;
  wakeup->last_sweep = false;
  if (has_room_again(wakeup)) {
    do_within(wakeup, &wakeup->sweep_at_ms, ROOM_LOOK_MS);
    return;
  }
  wakeup->claim_at_ms = wakeup->probe_at_ms = INT64_MAX;
  if (keeps_flags_up(wakeup, since_found_ms)) {
    wakeup->state = WAKEUP_ANSWERING;
    do_within(wakeup, &wakeup->claim_at_ms, ANSWERING_MS);
    return;
  }
  begin_lingering(wakeup, since_found_ms < BUSY_MS ? LINGER_BUSY_MS : LINGER_LEAST_MS);
  if (!wakeup->options->drain) /* a hold that sleeps already does not report it again */
    do_within(wakeup, &wakeup->claim_at_ms, wakeup->wait_ms);
}

void wakeup_more(struct wakeup *wakeup) {
  wake(wakeup, false);
}

void wakeup_raised(struct wakeup *wakeup, bool clear) {
  if (wakeup->state != WAKEUP_LINGERING && wakeup->state != WAKEUP_STOPPED)
    confirm(wakeup, clear);
}

void wakeup_set_shared(struct wakeup *wakeup, bool shared) {
  wakeup->shared = shared;
}

/* Every role may send the doorbell's notifications, as often as it likes. A ring that comes shortly after one that
 * brought no job waits a little. */
void wakeup_rung(struct wakeup *wakeup) {
  int64_t now_ms = clock_ms(), wait_ms = wakeup->rung_ms + RING_EVERY_MS - now_ms;
  if (wakeup->found_ms < wakeup->rung_ms && wait_ms > 0) {
    do_within(wakeup, &wakeup->claim_at_ms, wait_ms);
    return;
  }
  wakeup->rung_ms = now_ms;
  wakeup->told = true;
  if (!wake(wakeup, false) && !drain_paused(wakeup))
    wakeup->again = true;
}

void wakeup_steered(struct wakeup *wakeup) {
  plan_poll(wakeup);
  wakeup_rung(wakeup);
}

void wakeup_rung_by(struct wakeup *wakeup, int64_t ring, int64_t wait_ms) {
  wakeup->ring = wakeup->sweep->ring = ring;
  wakeup->heard_ms = clock_ms();
  if (wait_ms > 0 && !wakeup->eager) {
    do_within(wakeup, &wakeup->late_at_ms, wait_ms);
    return;
  }
  wakeup->extra = wait_ms > 0;
  wakeup_rung(wakeup);
}

void wakeup_answered(struct wakeup *wakeup, int64_t ring) {
  if (ring != wakeup->ring) /* there was another ring since */
    return;
  wakeup->ring = 0;
  wakeup->late_at_ms = INT64_MAX;
}

static void look_late(struct wakeup *wakeup) {
  wakeup->extra = wakeup->told = true;
  if (!wake(wakeup, false))
    wakeup->again = true;
}

static bool take(int64_t *at_ms, int64_t now_ms) {
  if (*at_ms > now_ms)
    return false;
  *at_ms = INT64_MAX;
  return true;
}

static void on_timer(uv_timer_t *timer) {
  struct wakeup *wakeup = timer->data;
  int64_t now_ms = clock_ms();
  bool claim_now = take(&wakeup->claim_at_ms, now_ms), sweep_now = take(&wakeup->sweep_at_ms, now_ms);
  wakeup->told = wakeup->told || claim_now || sweep_now;
  bool probe_now = take(&wakeup->probe_at_ms, now_ms), late_now = take(&wakeup->late_at_ms, now_ms);
  if (probe_now && wakeup->state == WAKEUP_CONFIRMING && wakeup->doorbell)
    doorbell_probe(wakeup->doorbell);
  if (claim_now && wakeup->state == WAKEUP_ANSWERING)
    begin_lingering(wakeup, LINGER_LEAST_MS);
  if (late_now)
    look_late(wakeup);
  if (drain_paused(wakeup))
    ;
  else if (sweep_now)
    sweep(wakeup);
  else if (claim_now)
    wake(wakeup, false);
  plan_poll(wakeup);
  set_timer(wakeup);
}
