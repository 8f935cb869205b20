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

/* An executor that dies within YOUNG_MS of its start is replaced after a wait that grows from least to most. */
enum { YOUNG_MS = 5000, RESTART_LEAST_MS = 100, RESTART_MOST_MS = 10000 };

/* A retiring executor is checked this often. At the first check another slot takes its place, and its jobs run on
 * beside the jobs of that slot. */
enum { RETIRE_CHECK_MS = 1000 };

/* A process that has no jobs any more and does not exit is killed at this check. */
enum { EXIT_CHECKS = 5 };

/* How often an executor's memory is read at most. */
enum { MEMORY_CHECK_MS = 10 };

static const struct child_events child_events;

struct slot *slot_new(const struct slot_start *start, int number) {
  struct slot *slot = memory_new(sizeof *slot);
  slot->start = *start;
  slot->number = number;
  slot->sources = sources_keep(*start->sources);
  slot->child = child_new(start->loop, start->child, &child_events, slot);
  uv_timer_init(start->loop, &slot->timer);
  uv_timer_init(start->loop, &slot->idle_timer);
  slot->timer.data = slot->idle_timer.data = slot;
  return slot;
}

static void free_slot(uv_handle_t *timer) {
  struct slot *slot = timer->data;
  free(slot->queues);
  free(slot);
}

/* The handles are closed one after the other, because the loop calls back in any order. The last callback frees the
 * memory. */
static void close_timer(uv_handle_t *idle_timer) {
  struct slot *slot = idle_timer->data;
  uv_close((uv_handle_t *)&slot->timer, free_slot);
}

void slot_free(struct slot *slot) {
  uv_timer_stop(&slot->timer); /* the timer may be due now, and is closed later */
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    hold_free(slot->holds[lane]);
  child_free(slot->child);
  sources_drop(slot->sources);
  uv_close((uv_handle_t *)&slot->idle_timer, close_timer);
}

/* ── the life of the executor ── */

#define TO(state) (1u << (state))

/* The states that may follow each state. */
static const unsigned successors[] = {
    [SLOT_DEAD] = TO(SLOT_LOADING),
    [SLOT_LOADING] = TO(SLOT_READY) | TO(SLOT_BROKEN) | TO(SLOT_DEAD),
    [SLOT_BROKEN] = TO(SLOT_DEAD),
    [SLOT_READY] = TO(SLOT_RETIRING) | TO(SLOT_DEAD),
    [SLOT_RETIRING] = TO(SLOT_EXITING) | TO(SLOT_DEAD),
    [SLOT_EXITING] = TO(SLOT_DEAD),
};

/* A change that the table does not list is a fault of the program. */
static void set_state(struct slot *slot, enum slot_state state) {
  if (!(successors[slot->state] & TO(state))) {
    log_error("internal error: an executor's slot cannot change its state like this; the worker ends",
              LOG_I("executor", slot->number), LOG_I("from", slot->state), LOG_I("to", state));
    abort();
  }
  slot->state = state;
}

static bool is_to_be_replaced(const struct slot *slot) {
  return slot->state == SLOT_RETIRING || slot->state == SLOT_EXITING;
}

static void on_restart(uv_timer_t *timer) {
  slot_start_executor(timer->data);
}

/* `at_once`: the executor did not die, but was replaced. */
static void restart_later(struct slot *slot, bool at_once) {
  if (at_once || clock_ms() - slot->started_ms >= YOUNG_MS)
    slot->restart_wait_ms = 0;
  uv_timer_start(&slot->timer, on_restart, (uint64_t)slot->restart_wait_ms, 0);
  slot->restart_wait_ms = growing_wait_after(slot->restart_wait_ms, RESTART_LEAST_MS, RESTART_MOST_MS);
}

void slot_start_executor(struct slot *slot) {
  slot->started_ms = clock_ms();
  slot->jobs = 0;
  set_state(slot, SLOT_LOADING);
  if (child_start(slot->child, slot->sources) == 0) {
    slot->start.counts->executor_starts++;
    slot->start.counts->executor_restarts += slot->died;
    slot->died = false;
    return;
  }
  set_state(slot, SLOT_DEAD);
  restart_later(slot, false);
  slot->start.events->broken(slot->start.owner, slot, NULL, 0);
}

void slot_read_sources(struct slot *slot) {
  sources_drop(slot->sources);
  slot->sources = NULL;
}

struct sources *slot_sources(const struct slot *slot) {
  return slot->sources;
}

void slot_let_exit(struct slot *slot) {
  set_state(slot, SLOT_EXITING);
  slot->exit_checks = EXIT_CHECKS;
  child_leave(slot->child);
}

/* An executor that is to end is still alive: its jobs take long, or it has no jobs and does not exit. */
static void on_retire_check(uv_timer_t *timer) {
  struct slot *slot = timer->data;
  if ((slot->state == SLOT_EXITING || slot->state == SLOT_BROKEN) && --slot->exit_checks == 0)
    child_kill(slot->child, "was killed: it did not exit when it was to be replaced");
  else if (is_to_be_replaced(slot) && !slot->replaced)
    slot->start.events->outlived(slot->start.owner, slot);
}

void slot_retire(struct slot *slot) {
  slot_end_isolation(slot);
  set_state(slot, SLOT_RETIRING);
  child_retire(slot->child);
  uv_timer_start(&slot->timer, on_retire_check, RETIRE_CHECK_MS, RETIRE_CHECK_MS);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    hold_recall(slot->holds[lane], NULL);
}

/* Whether the executor has run its number of jobs, or uses most of the memory that it may use. */
static bool has_had_enough(struct slot *slot) {
  const struct options *options = slot->start.options;
  if (options->max_jobs > 0 && slot->jobs >= options->max_jobs)
    return true;
  if (options->max_memory == 0 || clock_ms() - slot->memory_checked_ms < MEMORY_CHECK_MS)
    return false;
  slot->memory_checked_ms = clock_ms();
  return memory_is_scarce((uint64_t)child_memory(slot->child), (uint64_t)options->max_memory);
}

bool slot_is_dead(const struct slot *slot) {
  return !child_is_alive(slot->child);
}

int slot_pid(const struct slot *slot) {
  return child_pid(slot->child);
}

/* ── requests of the worker ── */

/* Sends the executor the settings, as they were resolved from the script, the command line and the environment. */
static void tell_settings(const struct slot *slot) {
  const struct options *options = slot->start.options;
  const struct session_mode *mode = slot->start.mode;
  struct message_serve serve = {.concurrency = (uint32_t)options->concurrency,
                                .pool = (uint32_t)options->pool,
                                .prepare = mode->kind == SESSION_OWN && !mode->unprepared,
                                .version = slot->sources ? slot->sources->version : "",
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
  if (slot->stage == SLOT_PREPARING)
    slot->stage = SLOT_SERVING;
  if (!slot->holds[SLOT_FIRST_HOLD])
    return;
  if (child_is_ready(slot->child)) /* otherwise on_ready() tells it */
    tell_settings(slot);
  hold_open(slot->holds[SLOT_FIRST_HOLD]);
  hold_wake(slot->holds[SLOT_FIRST_HOLD], false);
}

struct hold *slot_hold(const struct slot *slot, int lane) {
  return slot->holds[lane];
}

int slot_number(const struct slot *slot) {
  return slot->number;
}

bool slot_wake(struct slot *slot, bool sweep) {
  return slot->holds[SLOT_FIRST_HOLD] && hold_wake(slot->holds[SLOT_FIRST_HOLD], sweep);
}

bool slot_ahead_is_at_rest(const struct slot *slot) {
  for (int lane = SLOT_AHEAD_HOLD; lane < HOLDS_PER_EXECUTOR; lane++)
    if (slot->holds[lane] && !hold_is_at_rest(slot->holds[lane]))
      return false;
  return true;
}

bool slot_is_at_rest(const struct slot *slot) {
  const struct hold *first = slot->holds[SLOT_FIRST_HOLD];
  return (!first || hold_is_at_rest(first)) && slot_ahead_is_at_rest(slot);
}

bool slot_is_cut_off(const struct slot *slot) {
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    if (slot->holds[lane] && hold_is_up(slot->holds[lane]) && !hold_is_at_rest(slot->holds[lane]))
      return false;
  return true;
}

bool slot_is_asleep(const struct slot *slot) {
  const struct hold *first = slot->holds[SLOT_FIRST_HOLD];
  if (slot->replaced)
    return slot_is_at_rest(slot);
  return first && hold_is_asleep(first) && slot_ahead_is_at_rest(slot) && child_is_ready(slot->child);
}

bool slot_is_useless(const struct slot *slot) {
  const struct hold *first = slot->holds[SLOT_FIRST_HOLD];
  return slot_is_at_rest(slot) && (!first || !hold_is_up(first) || !child_is_ready(slot->child));
}

static void raise_stage(struct slot *slot, enum slot_stage stage) {
  if (slot->stage < stage)
    slot->stage = stage;
}

void slot_finish(struct slot *slot) {
  raise_stage(slot, SLOT_FINISHING);
  slot_end_isolation(slot);
  if (slot->state == SLOT_DEAD)
    uv_timer_stop(&slot->timer);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    if (slot->holds[lane])
      hold_stop(slot->holds[lane]);
}

void slot_break(struct slot *slot) {
  raise_stage(slot, SLOT_BREAKING);
  child_kill(slot->child, NULL);
}

void slot_kill_executor(struct slot *slot, const char *cause) {
  child_kill(slot->child, cause);
}

void slot_leave(struct slot *slot) {
  raise_stage(slot, SLOT_LEAVING);
  child_leave(slot->child);
}

void slot_be_replaced(struct slot *slot) {
  slot->replaced = true;
  slot_finish(slot);
}

void slot_give_way(struct slot *slot) {
  if (slot->state == SLOT_READY) {
    slot_retire(slot);
    if (slot_is_at_rest(slot))
      slot_let_exit(slot);
  }
  slot_be_replaced(slot);
  if (slot->state == SLOT_LOADING || slot->state == SLOT_BROKEN)
    slot_break(slot);
}

bool slot_has_session(const struct slot *slot) {
  const struct hold *first = slot->holds[SLOT_FIRST_HOLD];
  return first && hold_is_up(first);
}

bool slot_is_replaced(const struct slot *slot) {
  return slot->replaced;
}

/* ── reports of the executor ── */

static void make_holds(struct slot *slot) {
  for (uint32_t lane = 0; lane < HOLDS_PER_EXECUTOR; lane++) {
    const struct hold_start start = {.loop = slot->start.loop,
                                     .options = slot->start.options,
                                     .child = slot->child,
                                     .lane = lane,
                                     .ahead = lane >= SLOT_AHEAD_HOLD,
                                     .sweep = slot->start.sweep,
                                     .mode = slot->start.mode,
                                     .gate = slot->start.gate,
                                     .frontier = slot->start.frontier,
                                     .history = slot->start.history,
                                     .counts = slot->start.counts,
                                     .version = slot->version,
                                     .events = &slot_hold_events,
                                     .owner = slot};
    char name[32];
    snprintf(name, sizeof name, "hold %d%c", slot->number, (char)('a' + lane));
    slot->holds[lane] = hold_new(name, &start);
  }
}

/* The command line and the environment override the script's setting for a queue, which overrides its setting for all
 * queues. */
static bool resolve(const struct options *options, const char *name, bool set, enum choice choice) {
  return choice == CHOICE_UNSET || options_forced(options, name) ? set : choice == CHOICE_YES;
}

static struct queue *add_queue(struct slot *slot, const struct message_queue *asked) {
  const struct options *options = slot->start.options;
  struct queue *queue = queue_find(slot->start.queues, asked->name);
  if (slot->sources != *slot->start.sources) /* an older version, which decides nothing any more */
    return queue;
  queue->registered = true;
  queue->preserve_completed =
      resolve(options, "preserve-completed", options->preserve_completed, asked->preserve_completed);
  queue->discard_failed = resolve(options, "discard-failed", options->discard_failed, asked->discard_failed);
  queue->keep_attempts = options->keep_all_attempts;
  queue->timeout_ms = asked->timeout_ms >= 0 ? asked->timeout_ms : options->timeout_ms;
  queue->concurrency = (int32_t)asked->concurrency;
  queue->transactional = asked->transactional;
  if (queue->transactional && queue->timeout_ms == 0) /* its lease is not extended, and must end */
    queue->timeout_ms = options->lease_ms;
  int32_t most = (int32_t)TRANSACTIONAL_MOST(options->pool);
  if (queue->transactional && (queue->concurrency == 0 || queue->concurrency > most))
    queue->concurrency = most;
  return queue;
}

static void on_sources(void *owner, struct message_sources *files) {
  struct slot *slot = owner;
  sources_drop(slot->sources);
  slot->sources = sources_new(files);
}

static void on_ready(void *owner, const struct message_ready *script) {
  struct slot *slot = owner;
  set_state(slot, SLOT_READY);
  memcpy(slot->version, slot->sources ? slot->sources->version : "", slot->sources ? VERSION_SIZE : 1);
  if (slot->stage >= SLOT_FINISHING) /* the stop came while this executor loaded the script */
    return;
  slot->start.events->ready(slot->start.owner, slot, script);
  log_debug("executor is ready", LOG_I("executor", slot->number), LOG_I("pid", child_pid(slot->child)));
  if (slot->stage >= SLOT_FINISHING) /* a wrong setting in the script has stopped the worker */
    return;
  if (!slot->holds[SLOT_FIRST_HOLD])
    make_holds(slot);
  slot->queues = memory_resize(slot->queues, (script->queue_count + 1) * sizeof(struct queue *));
  slot->queue_count = script->queue_count;
  for (uint32_t i = 0; i < script->queue_count; i++)
    slot->queues[i] = add_queue(slot, &script->queues[i]);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    hold_serve(slot->holds[lane], slot->queues, slot->queue_count);
  slot_take_isolation(slot);
  if (slot->stage == SLOT_SERVING)
    slot_serve(slot);
}

static void on_broken(void *owner, const char *message, size_t length) {
  struct slot *slot = owner;
  set_state(slot, SLOT_BROKEN);
  slot->exit_checks = EXIT_CHECKS;
  uv_timer_start(&slot->timer, on_retire_check, RETIRE_CHECK_MS, RETIRE_CHECK_MS);
  slot->start.events->broken(slot->start.owner, slot, message, length);
}

static bool on_outcome(void *owner, const struct job_outcome *outcome) {
  struct slot *slot = owner;
  slot->jobs += outcome->outcome != OUTCOME_UNRUN; /* a job that did not run does not count */
  struct hold *hold = slot->holds[outcome->batch % HOLDS_PER_EXECUTOR];
  return hold && hold_outcome(hold, outcome);
}

static void on_outcomes_end(void *owner) {
  struct slot *slot = owner;
  if (!slot->holds[SLOT_FIRST_HOLD])
    return;
  if (slot->state == SLOT_READY && has_had_enough(slot))
    slot_retire(slot);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    hold_outcomes_end(slot->holds[lane]);
}

static void on_stop(void *owner) {
  struct slot *slot = owner;
  slot->start.events->stop(slot->start.owner);
}

static void on_replace(void *owner, int64_t job, const char *left) {
  struct slot *slot = owner;
  log_warn("a job has changed what its executor cannot set back; the executor is replaced when its jobs have ended",
           LOG_I("executor", slot->number), LOG_I("pid", child_pid(slot->child)), LOG_I("job", job),
           LOG_T("left", left));
  if (slot->state == SLOT_READY)
    slot_retire(slot);
}

static int count_begun(const struct slot *slot) {
  int begun = 0;
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    begun += slot->holds[lane] ? hold_count_begun(slot->holds[lane]) : 0;
  return begun;
}

/* Whether the executor had the job that its shared page names. Otherwise a handler has written to the page, and the
 * culprit is unknown. */
static bool is_culprit_known(const struct slot *slot, const struct child_death *death) {
  bool known = false;
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR && death->has_culprit; lane++)
    known = known || (slot->holds[lane] && hold_may_run(slot->holds[lane], death->culprit));
  return known;
}

static void log_death(const struct slot *slot, const struct child_death *death, bool known) {
  if (is_to_be_replaced(slot) && death->orderly)
    log_debug("an executor has run its jobs and is replaced", LOG_I("executor", slot->number));
  else if (slot->stage < SLOT_BREAKING && slot->state != SLOT_BROKEN)
    log_error("an executor died", LOG_I("executor", slot->number), LOG_T("cause", death->cause),
              known ? LOG_I("job", death->culprit) : (struct log_field){0});
}

static void on_died(void *owner, const struct child_death *death) {
  struct slot *slot = owner;
  bool intended = slot->stage >= SLOT_BREAKING, replace = is_to_be_replaced(slot);
  bool known = is_culprit_known(slot, death);
  int begun = count_begun(slot);
  char message[320];
  struct child_death told = {0}; /* after an intended death all jobs go back unchanged */
  if (known)
    snprintf(message, sizeof message, "the executor %s while it ran this job (%s)", death->cause, death->run);
  else
    snprintf(message, sizeof message, "the executor %s; only this job was running in it", death->cause);
  if (!intended)
    told = (struct child_death){.has_culprit = known,
                                .culprit = death->culprit,
                                .alone = begun == 1,
                                .ran_us = death->ran_us,
                                .cause = message,
                                .run = death->run};
  log_death(slot, death, known);
  slot_end_isolation(slot);
  slot->died = !intended && !(replace && death->orderly);
  set_state(slot, SLOT_DEAD);
  for (int lane = 0; lane < HOLDS_PER_EXECUTOR; lane++)
    if (slot->holds[lane])
      hold_child_died(slot->holds[lane], &told);
  uv_timer_stop(&slot->timer);
  if (slot->stage < SLOT_FINISHING)
    restart_later(slot, replace);
  slot->start.events->died(slot->start.owner, slot, death->cause);
}

static const struct child_events child_events = {on_sources,      on_ready, on_broken,  on_outcome,
                                                 on_outcomes_end, on_stop,  on_replace, on_died};
