#include "slot_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "growing_wait.h"
#include "log.h"
#include "memory.h"
#include "memory_limit.h"
#include "message.h"

/* Executors that die young are replaced after waits that grow from 100 ms to 10 s. */
enum { YOUNG_MS = 5000, RESTART_LEAST_MS = 100, RESTART_MOST_MS = 10000 };

/* An executor that is to be replaced is waited for this long; then another takes its place, and it goes on beside that.
 */
enum { PATIENCE_MS = 1000 };

/* One that has no jobs any more, and does not exit, is killed after so many times of that. */
enum { EXIT_TIMES = 5 };

/* So many suspects are tried one by one at once. */
enum { FEW = 7 };

/* How often an executor's memory is looked at. */
enum { MEMORY_LOOK_MS = 10 };

static const struct child_events child_events;

struct slot *slot_new(const struct slot_start *start, int number) {
  struct slot *slot = memory_new(sizeof *slot);
  slot->start = *start;
  slot->number = number;
  slot->child = child_new(start->loop, start->child, &child_events, slot);
  uv_timer_init(start->loop, &slot->restart);
  uv_timer_init(start->loop, &slot->idle);
  slot->restart.data = slot->idle.data = slot;
  return slot;
}

static void free_slot(uv_handle_t *timer) {
  struct slot *slot = timer->data;
  free(slot->queues);
  free(slot);
}

/* One after the other: the loop calls back in an order of its own, and the last one takes the memory along. */
static void close_restart(uv_handle_t *idle) {
  struct slot *slot = idle->data;
  uv_close((uv_handle_t *)&slot->restart, free_slot);
}

void slot_free(struct slot *slot) {
  uv_timer_stop(&slot->restart); /* it may be due at this moment, and is closed later */
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    hold_free(slot->holds[lane]);
  child_free(slot->child);
  uv_close((uv_handle_t *)&slot->idle, close_restart);
}

static void on_restart(uv_timer_t *timer) {
  slot_start_executor(timer->data);
}

void slot_let_go(struct slot *slot) {
  if (slot->left > 0)
    return;
  slot->left = EXIT_TIMES;
  child_leave(slot->child);
}

/* What runs in the executor that retires takes long; or nothing does, and something keeps it from exiting. */
static void on_impatience(uv_timer_t *timer) {
  struct slot *slot = timer->data;
  if (slot->left > 0 && --slot->left == 0)
    child_kill(slot->child, "was killed: it did not exit when it was to be replaced");
  else if (!slot->outgoing)
    slot->start.events->outlived(slot->start.owner, slot);
}

static void restart_later(struct slot *slot) {
  bool young = clock_ms() - slot->started_ms < YOUNG_MS;
  if (!young || slot->retiring)
    slot->restart_wait_ms = 0;
  uv_timer_start(&slot->restart, on_restart, (uint64_t)slot->restart_wait_ms, 0);
  slot->restart_wait_ms = growing_wait_after(slot->restart_wait_ms, RESTART_LEAST_MS, RESTART_MOST_MS);
}

void slot_start_executor(struct slot *slot) {
  slot->started_ms = clock_ms();
  slot->jobs = slot->left = 0;
  slot->retiring = slot->broken = false;
  if (child_start(slot->child) == 0)
    return;
  restart_later(slot);
  slot->start.events->broken(slot->start.owner, NULL, 0);
}

/* What was resolved of the script's settings, for its executor, and of whose the sessions are, which is known
 * when it is to serve. */
static void tell_settings(const struct slot *slot) {
  const struct options *options = slot->start.options;
  const struct session_mode *mode = slot->start.mode;
  struct message_serve serve = {.concurrency = (uint32_t)options->concurrency,
                                .pool = (uint32_t)options->pool,
                                .prepare = mode->kind == SESSION_OWN && !mode->unprepared,
                                .queue_count = slot->queue_count,
                                .queues = memory_new((slot->queue_count + 1) * sizeof *serve.queues)};
  for (uint32_t i = 0; i < slot->queue_count; i++)
    serve.queues[i] = (struct message_serve_queue){.concurrency = (uint32_t)slot->queues[i]->concurrency,
                                                   .timeout_ms = slot->queues[i]->timeout_ms,
                                                   .preserve_completed = slot->queues[i]->preserve_completed};
  child_serve(slot->child, &serve);
  free(serve.queues);
}

void slot_serve(struct slot *slot) {
  slot->serving = true;
  if (!slot->holds[FIRST])
    return;
  if (child_is_ready(slot->child)) /* else it is told when it is */
    tell_settings(slot);
  hold_open(slot->holds[FIRST]);
  hold_wake(slot->holds[FIRST], false);
}

struct hold *slot_hold(const struct slot *slot, int lane) {
  return slot->holds[lane];
}

bool slot_wake(struct slot *slot, bool sweep) {
  return slot->holds[FIRST] && hold_wake(slot->holds[FIRST], sweep);
}

bool slot_others_rest(const struct slot *slot) {
  for (int lane = AHEAD; lane < HOLDS_PER_EXECUTOR; lane++)
    if (slot->holds[lane] && !hold_is_at_rest(slot->holds[lane]))
      return false;
  return true;
}

bool slot_is_asleep(const struct slot *slot) {
  if (slot->outgoing)
    return slot_is_at_rest(slot);
  return slot->holds[FIRST] && hold_is_asleep(slot->holds[FIRST]) && slot_others_rest(slot) &&
         child_is_ready(slot->child);
}

bool slot_is_at_rest(const struct slot *slot) {
  return (!slot->holds[FIRST] || hold_is_at_rest(slot->holds[FIRST])) && slot_others_rest(slot);
}

void slot_be_careful(struct slot *slot, int64_t until_ms) {
  slot->careful_until_ms = until_ms;
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    if (slot->holds[lane])
      hold_be_careful(slot->holds[lane], until_ms);
}

void slot_finish(struct slot *slot) {
  slot->finishing = true;
  if (slot_is_dead(slot)) /* else the timer is for one that retires */
    uv_timer_stop(&slot->restart);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    if (slot->holds[lane])
      hold_stop(slot->holds[lane]);
}

void slot_go(struct slot *slot) {
  slot->outgoing = true;
  slot_finish(slot);
  log_debug("an executor has run its jobs: those that run on have it to themselves", LOG_I("executor", slot->number),
            LOG_I("pid", child_pid(slot->child)));
}

bool slot_is_outgoing(const struct slot *slot) {
  return slot->outgoing;
}

int slot_number(const struct slot *slot) {
  return slot->number;
}

void slot_break(struct slot *slot) {
  slot->breaking = true;
  child_kill(slot->child, NULL);
}

void slot_leave(struct slot *slot) {
  slot->leaving = true;
  child_leave(slot->child);
}

bool slot_is_dead(const struct slot *slot) {
  return !child_is_alive(slot->child);
}

/* ── what the executor says ── */

static void make_holds(struct slot *slot) {
  for (uint32_t lane = 0; lane < HOLDS_PER_EXECUTOR; lane++) {
    const struct hold_start start = {.loop = slot->start.loop,
                                     .options = slot->start.options,
                                     .child = slot->child,
                                     .lane = lane,
                                     .ahead = lane >= AHEAD,
                                     .sweep = slot->start.sweep,
                                     .mode = slot->start.mode,
                                     .gate = slot->start.gate,
                                     .events = &slot_hold_events,
                                     .owner = slot};
    char name[32];
    snprintf(name, sizeof name, "hold %d%c", slot->number, (char)('a' + lane));
    slot->holds[lane] = hold_new(name, &start);
    hold_be_careful(slot->holds[lane], slot->careful_until_ms);
  }
}

/* A flag or the environment wins over what the script says of one queue, that over what it says of all. */
static bool resolve(const struct options *options, const char *name, bool set, enum choice choice) {
  return choice == CHOICE_UNSET || options_forced(options, name) ? set : choice == CHOICE_YES;
}

static struct queue *add_queue(struct slot *slot, const struct message_queue *asked) {
  const struct options *options = slot->start.options;
  struct queue *queue = queue_find(slot->start.queues, asked->name);
  queue->preserve_completed =
      resolve(options, "preserve-completed", options->preserve_completed, asked->preserve_completed);
  queue->discard_failed = resolve(options, "discard-failed", options->discard_failed, asked->discard_failed);
  queue->timeout_ms = asked->timeout_ms >= 0 ? asked->timeout_ms : options->timeout_ms;
  queue->concurrency = (int32_t)asked->concurrency;
  queue->transactional = asked->transactional;
  if (queue->transactional && queue->timeout_ms == 0) /* its lease is not extended */
    queue->timeout_ms = options->lease_ms;
  int32_t most = (int32_t)TRANSACTIONAL_MOST(options->pool);
  if (queue->transactional && (queue->concurrency == 0 || queue->concurrency > most))
    queue->concurrency = most;
  return queue;
}

static void on_ready(void *owner, const struct message_ready *script) {
  struct slot *slot = owner;
  if (slot->finishing) /* it was asked to stop while this executor was loading the script */
    return;
  slot->start.events->ready(slot->start.owner, script);
  log_debug("executor is ready", LOG_I("executor", slot->number), LOG_I("pid", child_pid(slot->child)));
  if (slot->finishing) /* something in the script forbids to go on */
    return;
  if (!slot->holds[FIRST])
    make_holds(slot);
  slot->queues = memory_resize(slot->queues, (script->queue_count + 1) * sizeof(struct queue *));
  slot->queue_count = script->queue_count;
  for (uint32_t i = 0; i < script->queue_count; i++)
    slot->queues[i] = add_queue(slot, &script->queues[i]);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    hold_serve(slot->holds[lane], slot->queues, slot->queue_count);
  if (slot->serving)
    slot_serve(slot);
}

static void on_broken(void *owner, const char *message, size_t length) {
  struct slot *slot = owner;
  slot->broken = true;
  slot->start.events->broken(slot->start.owner, message, length);
}

static bool on_outcome(void *owner, const struct job_outcome *outcome) {
  struct slot *slot = owner;
  slot->jobs += outcome->outcome != OUTCOME_UNRUN; /* which has not begun */
  struct hold *hold = slot->holds[outcome->batch % HOLDS_PER_EXECUTOR];
  return hold && hold_outcome(hold, outcome);
}

/* The executor has run its number of jobs, or has most of the memory it may have. */
static bool has_had_enough(struct slot *slot) {
  const struct options *options = slot->start.options;
  if (options->max_jobs > 0 && slot->jobs >= options->max_jobs)
    return true;
  if (options->max_memory == 0 || clock_ms() - slot->memory_seen_ms < MEMORY_LOOK_MS)
    return false;
  slot->memory_seen_ms = clock_ms();
  return memory_is_scarce((uint64_t)child_memory(slot->child), (uint64_t)options->max_memory);
}

/* No more jobs for this executor; it leaves as soon as the holds have none of its jobs any more. */
static void retire(struct slot *slot) {
  slot->retiring = true;
  child_retire(slot->child);
  uv_timer_start(&slot->restart, on_impatience, PATIENCE_MS, PATIENCE_MS);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    hold_recall(slot->holds[lane], NULL);
}

static void on_outcomes_end(void *owner) {
  struct slot *slot = owner;
  if (!slot->holds[FIRST])
    return;
  if (!slot->retiring && has_had_enough(slot))
    retire(slot);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    hold_outcomes_end(slot->holds[lane]);
}

static void on_stop(void *owner) {
  struct slot *slot = owner;
  slot->start.events->stop(slot->start.owner);
}

/* Nobody knows whose fault it was: of those that ran half are tried together next time, and so on; a few one by one. */
static void shrink_group(struct slot *slot, int begun) {
  if (begun > 0)
    *slot->start.together = begun > FEW ? begun / 2 : 1;
}

static void on_died(void *owner, const struct child_death *death) {
  struct slot *slot = owner;
  char message[320];
  int begun = 0;
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    begun += slot->holds[lane] ? hold_count_begun(slot->holds[lane]) : 0;
  const struct child_death broken = {0}, told = {.culprit = death->culprit,
                                                 .alone = begun == 1,
                                                 .ran_us = death->ran_us,
                                                 .cause = message,
                                                 .run = death->run};
  if (death->culprit)
    snprintf(message, sizeof message, "the executor %s while it ran this job (%s)", death->cause, death->run);
  else
    snprintf(message, sizeof message, "the executor %s, with this job alone in it", death->cause);
  if (slot->retiring && death->orderly)
    log_debug("an executor has run its jobs and is replaced", LOG_I("executor", slot->number));
  else if (!slot->breaking && !slot->leaving && !slot->broken)
    log_error("an executor died", LOG_I("executor", slot->number), LOG_T("cause", death->cause),
              death->culprit ? LOG_I("job", death->culprit) : (struct log_field){0});
  if (!death->culprit && !slot->breaking)
    shrink_group(slot, begun);
  slot->has_group = false;
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    if (slot->holds[lane])
      hold_child_died(slot->holds[lane], slot->breaking ? &broken : &told);
  uv_timer_stop(&slot->restart);
  if (!slot->finishing)
    restart_later(slot);
  slot->start.events->died(slot->start.owner, death->cause);
}

static const struct child_events child_events = {on_ready, on_broken, on_outcome, on_outcomes_end, on_stop, on_died};
