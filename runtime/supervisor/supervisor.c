#include "supervisor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "buffer.h"
#include "clock.h"
#include "conninfo.h"
#include "control.h"
#include "cores.h"
#include "descriptors.h"
#include "endpoints.h"
#include "executable_memory.h"
#include "file_changes.h"
#include "memory.h"
#include "output.h"
#include "output_pipes.h"
#include "queue.h"
#include "reload.h"
#include "script_options.h"
#include "slot_list.h"
#include "start_line.h"
#include "stop_signals.h"
#include "wakeup.h"

/* The stages of a worker's life. The stage only rises. */
enum stage {
  STAGE_LOADING,    /* the first executor loads the script; an error in it ends the worker */
  STAGE_CONNECTING, /* the database has not been reached yet */
  STAGE_SERVING,    /* jobs are claimed and run */
  STAGE_FINISHING,  /* SIGTERM: no more claims; running jobs may end within the grace time */
  STAGE_BREAKING,   /* a second signal, or the grace time is over: executors are killed, and their jobs go back */
  STAGE_LEAVING,    /* the worker has no jobs any more: executors exit, and the worker's row is deleted */
  STAGE_GONE,       /* everything is closed; the loop ends */
};

/* How long each of the last stages may take. Breaking is checked BREAK_CHECKS times: it ends earlier if all holds that
 * still have jobs have no session. */
enum { LEAVE_TIMEOUT_MS = 2000, BREAK_CHECKS = 4 };

/* How long the worker waits at its end for the last lines of output: without a write, and altogether. */
enum { OUTPUT_STALLED_MS = 1000, OUTPUT_MOST_MS = 10000 };

/* Nobody reads the log if none of it could be written for this long. */
enum { STUCK_LOG_MS = 1000 };

/* If the system refuses to start the first executor this often, with growing waits, the worker exits. */
enum { FIRST_STARTS = 6 };

struct supervisor {
  uv_loop_t loop;
  struct options *options;
  struct child_start start;
  struct slot_start slot_start;
  struct sources *sources; /* of the version of the script that new executors run */
  enum stage stage;
  int status; /* the exit status */
  struct queue_list queues;
  struct control *control;
  struct script_options script_options;
  struct reload *reload;
  struct file_changes *watch; /* NULL without --watch */
  bool quiet;
  bool reload_failed;         /* the last reload has failed, and its error is in the status */
  struct buffer reload_error; /* the error that was logged last, of the reload that is tried again */
  bool reload_wanted;         /* the reload begins when the worker serves */
  struct slot_list slots;
  struct sweep sweep;
  struct session_mode mode;
  struct claim_gate *gate;
  struct isolation isolation;
  struct frontier frontier;
  struct history history;
  struct counts counts;
  struct status *worker_status; /* what the row in pgq_workers says */
  struct worker_view view;
  struct endpoints *endpoints; /* NULL without --listen */
  struct wakeup *wakeup;
  uv_timer_t stop_timer; /* connecting: connect timeout; later the end of the current stage */
  uv_timer_t free_timer; /* frees objects that have ended, after their last callbacks have returned */
  struct stop_signals signals;
  struct output_pipes *output;
  const char *break_reason; /* why breaking will begin when the stop timer fires */
  int break_checks;         /* breaking: how many checks are left */
  int failed_starts;        /* loading: how often the system has refused to start the first executor */
  bool control_left;
};

static void advance(struct supervisor *s);
static void begin_finishing(struct supervisor *s, const char *reason);

/* ── when to look for jobs ── */

static bool on_wake(void *owner, bool sweep) {
  struct supervisor *s = owner;
  return slot_list_wake(&s->slots, sweep);
}

static bool on_all_idle(void *owner) {
  struct supervisor *s = owner;
  return slot_list_is_idle(&s->slots);
}

static void on_drained(void *owner) {
  begin_finishing(owner, "drained");
}

static const struct wakeup_events wakeup_events = {on_wake, on_all_idle, on_drained};

/* ── replaced slots ── */

static void on_free_ended(uv_timer_t *timer) {
  struct supervisor *s = timer->data;
  if (slot_list_free_ended(&s->slots))
    wakeup_rung(s->wakeup); /* a drain may have waited for them */
}

static void free_ended_later(struct supervisor *s) {
  if (s->stage < STAGE_LEAVING && slot_list_has_ended(&s->slots))
    uv_timer_start(&s->free_timer, on_free_ended, 0, 0);
}

/* ── executors ── */

static void start_control(struct supervisor *s);

/* Serves HTTP if an option asks for it. A problem ends the worker. */
static void start_endpoints(struct supervisor *s) {
  struct http_problem problem;
  if (s->endpoints || !s->options->listen || !*s->options->listen)
    return;
  s->endpoints = endpoints_new(&s->loop, &s->view, &problem);
  if (s->endpoints)
    return;
  log_plain("pgq-lua: --listen: %s", problem.message);
  s->status = 1;
}

/* The first executor has loaded the script, so the settings are known, and the worker can connect. */
static void first_ready(struct supervisor *s, const struct message_ready *script) {
  bool has_timeout;
  if (script_options_apply(&s->script_options, s->options, script) != 0)
    s->status = 1;
  log_setup((enum log_level)s->options->log_level, (enum log_format)s->options->log_format);
  if (conninfo_inspect(s->options->db, &has_timeout) != 0) {
    char explained[CONNINFO_MESSAGE_SIZE];
    log_plain("pgq-lua: %s: db: %s", s->start.argv[s->start.script], conninfo_explain(s->options->db, explained));
    s->status = 1;
  }
  if (s->status == 0)
    start_endpoints(s);
  if (s->status != 0) {
    begin_finishing(s, NULL);
    return;
  }
  s->stage = STAGE_CONNECTING;
  status_set_stage(s->worker_status, "connecting");
  start_control(s);
}

/* Looks for changes of the files that the worker runs. */
static void watch_sources(struct supervisor *s) {
  if (!s->watch)
    return;
  file_changes_forget_others(s->watch, s->sources);
  file_changes_add(s->watch, s->sources);
}

static void on_slot_ready(void *owner, struct slot *slot, const struct message_ready *script) {
  struct supervisor *s = owner;
  bool reloads = reload_took_ready(s->reload, slot, script);
  if (reloads || !s->reload_failed)
    status_set_script_error(s->worker_status, NULL, 0);
  s->reload_failed = s->reload_failed && !reloads;
  if (reloads || s->stage != STAGE_LOADING)
    return;
  s->sources = sources_keep(slot_sources(slot));
  first_ready(s, script);
  watch_sources(s);
}

static void on_slot_broken(void *owner, struct slot *slot, const char *message, size_t length) {
  struct supervisor *s = owner;
  if (reload_took_broken(s->reload, slot, message, length))
    return;
  if (!message && s->stage == STAGE_LOADING && ++s->failed_starts < FIRST_STARTS)
    return; /* the slot tries again */
  if (s->stage != STAGE_LOADING) {
    if (message) {
      log_error("the script no longer loads", LOG_B("error", message, length));
      status_set_script_error(s->worker_status, message, length);
    }
    return;
  }
  if (message)
    log_plain("pgq-lua: %.*s", (int)length, message);
  s->status = 1;
  begin_finishing(s, NULL);
}

static void on_slot_died(void *owner, struct slot *slot, const char *cause) {
  struct supervisor *s = owner;
  if (!reload_took_death(s->reload, slot, cause) && s->stage == STAGE_LOADING) {
    log_plain("pgq-lua: %s: the executor %s while it loaded the script", s->start.argv[s->start.script], cause);
    s->status = 1;
    begin_finishing(s, NULL);
  }
  free_ended_later(s);
  advance(s);
}

/* Another slot takes the slot's place, unless the number of replaced slots that still run equals the number of
 * executors. */
static void on_slot_outlived(void *owner, struct slot *slot) {
  struct supervisor *s = owner;
  if (s->stage != STAGE_SERVING || s->slots.count >= 2 * s->options->executors ||
      !slot_list_is_in_place(&s->slots, slot))
    return;
  struct slot *replacement = slot_list_replace(&s->slots, slot);
  log_debug("another executor takes the place of one whose jobs take long", LOG_I("executor", slot_number(slot)),
            LOG_I("pid", slot_pid(slot)));
  slot_serve(replacement);
  slot_start_executor(replacement);
}

static void on_slot_stop(void *owner) {
  begin_finishing(owner, "a handler asked for it");
}

static void on_backed_off(void *owner, struct queue *queue) {
  struct supervisor *s = owner;
  slot_list_recall(&s->slots, queue);
  status_touch(s->worker_status);
}

static void on_rested(void *owner) {
  struct supervisor *s = owner;
  free_ended_later(s);
  advance(s);
}

static const struct slot_events slot_events = {
    .ready = on_slot_ready,
    .broken = on_slot_broken,
    .died = on_slot_died,
    .outlived = on_slot_outlived,
    .stop = on_slot_stop,
    .backed_off = on_backed_off,
    .rested = on_rested,
};

/* ── reloading the script ── */

static void on_reload_failed(void *owner, const struct sources *sources, const char *message, size_t length) {
  struct supervisor *s = owner;
  if (s->watch) /* a module that was loaded for the first time may have the error */
    file_changes_add(s->watch, sources);
  if (!s->reload_failed || length != s->reload_error.length ||
      (length > 0 && memcmp(message, s->reload_error.bytes, length) != 0))
    log_error("the script could not be reloaded: the worker goes on with the version that it has, and tries again",
              LOG_T("script", s->start.argv[s->start.script]), LOG_B("error", message, length));
  buffer_drop(&s->reload_error, s->reload_error.length);
  buffer_add(&s->reload_error, message, length);
  s->reload_failed = true;
  status_set_script_error(s->worker_status, message, length);
}

static void on_reload_accepted(void *owner, const struct message_ready *script) {
  struct supervisor *s = owner;
  script_options_reapply(&s->script_options, s->options, script);
  log_setup((enum log_level)s->options->log_level, (enum log_format)s->options->log_format);
  s->start.max_memory = s->options->max_memory;
  for (struct queue *queue = s->queues.first; queue; queue = queue->next)
    queue->registered = false;
  watch_sources(s);
}

static void on_reload_registered(void *owner) {
  struct supervisor *s = owner;
  control_queues_changed(s->control);
}

static void on_reloaded(void *owner) {
  struct supervisor *s = owner;
  log_info("the script was reloaded", LOG_T("script", s->start.argv[s->start.script]),
           LOG_T("script_version", s->sources ? s->sources->version : "unknown"),
           LOG_I("executors", s->options->executors));
}

static void on_slots_replaced(void *owner) {
  free_ended_later(owner);
}

static const struct reload_events reload_events = {on_reload_failed, on_reload_accepted, on_reload_registered,
                                                   on_reloaded, on_slots_replaced};

/* A reload that is asked for before the worker serves begins then. */
static void reload(struct supervisor *s, const char *reason, const char *path) {
  if (s->stage >= STAGE_FINISHING)
    return;
  log_info("reloading the script", LOG_T("reason", reason), path ? LOG_T("file", path) : (struct log_field){0});
  buffer_drop(&s->reload_error, s->reload_error.length); /* the same error is logged again */
  s->reload_wanted = s->stage < STAGE_SERVING;
  if (!s->reload_wanted)
    reload_start(s->reload);
}

static void on_file_changed(void *owner, const char *path) {
  reload(owner, "a file has changed", path);
}

/* ── the database ── */

static void on_connect_timeout(uv_timer_t *timer) {
  struct supervisor *s = timer->data;
  log_error("could not reach the database in time", LOG_US("connect_timeout", s->options->connect_timeout_ms * 1000));
  s->status = 1;
  begin_finishing(s, NULL);
}

/* The number of executors: that of --executors, or one per core, as far as the limit on open files allows. */
static int choose_executors(const struct supervisor *s) {
  int wanted = s->options->executors > 0 ? (int)s->options->executors : cores_available();
  int executors = descriptors_reserve(wanted);
  if (executors < wanted)
    log_warn("the limit on open files allows fewer executors: raise it (ulimit -n, LimitNOFILE)",
             LOG_I("limit", descriptors_limit()), LOG_I("executors", executors), LOG_I("wanted", wanted));
  return executors;
}

static void on_checked(void *owner) {
  struct supervisor *s = owner;
  if (s->stage != STAGE_CONNECTING)
    return;
  uv_timer_stop(&s->stop_timer);
  int executors = choose_executors(s);
  s->options->executors = executors;
  s->stage = STAGE_SERVING;
  status_set_stage(s->worker_status, "serving");
  status_watch(s->worker_status, &s->loop);
  start_line_log(s->options, s->control, s->start.argv[s->start.script], s->queues.count, executors);
  slot_serve(s->slots.items[0]);
  while (s->slots.count < executors) {
    struct slot *slot = slot_list_add(&s->slots);
    slot_serve(slot);
    slot_start_executor(slot);
  }
  if (s->reload_wanted)
    reload_start(s->reload);
}

static void on_unfit(void *owner, const char *problem, bool missing) {
  struct supervisor *s = owner;
  if (s->stage != STAGE_CONNECTING)
    return;
  if (missing)
    log_plain("pgq-lua: %s: run 'pgq-lua%s migrate' first", problem, s->options->dev ? " --dev" : "");
  else
    log_plain("pgq-lua: %s", problem);
  s->status = 1;
  begin_finishing(s, NULL);
}

/* A quiet worker claims nothing, and finishes what it has. */
static void set_quiet(struct supervisor *s, bool quiet) {
  if (s->quiet == quiet || s->stage >= STAGE_FINISHING)
    return;
  s->quiet = quiet;
  if (s->stage == STAGE_SERVING)
    status_set_stage(s->worker_status, quiet ? "quiet" : "serving");
  if (quiet) {
    log_info("the worker is quiet: it claims no more jobs");
    claim_gate_shut(s->gate);
    slot_list_recall(&s->slots, NULL);
  } else {
    log_info("the worker claims jobs again");
    claim_gate_unshut(s->gate);
    wakeup_rung(s->wakeup);
  }
}

static void on_requested(void *owner, const char *request) {
  struct supervisor *s = owner;
  if (strcmp(request, "quiet") == 0 || strcmp(request, "resume") == 0)
    set_quiet(s, *request == 'q');
  else if (strcmp(request, "stop") == 0)
    begin_finishing(s, "pgq-lua stop");
  else if (strcmp(request, "reload") == 0)
    reload(s, "pgq-lua reload", NULL);
  else
    log_warn("somebody asks of this worker what it does not know", LOG_T("request", request));
}

static void on_control_left(void *owner) {
  struct supervisor *s = owner;
  s->control_left = true;
  advance(s);
}

static const struct control_events control_events = {
    .checked = on_checked,
    .unfit = on_unfit,
    .requested = on_requested,
    .left = on_control_left,
};

static void start_control(struct supervisor *s) {
  if (s->options->connect_timeout_ms > 0)
    uv_timer_start(&s->stop_timer, on_connect_timeout, (uint64_t)s->options->connect_timeout_ms, 0);
  s->start.conninfo = s->options->db;
  s->start.max_memory = s->options->max_memory;
  s->mode = session_mode_from_options(s->options);
  s->control = control_new(&s->loop, s->options, &s->queues, &s->mode, s->wakeup, &s->slots, &s->frontier, &s->history,
                           s->worker_status, &control_events, s);
}

/* ── the stages of a stop ── */

static void kill_all(struct supervisor *s) {
  for (int i = 0; i < s->slots.count; i++)
    slot_break(s->slots.items[i]);
}

static void begin_leaving(struct supervisor *s);
static void on_stop_timeout(uv_timer_t *timer);

static void begin_breaking(struct supervisor *s, const char *reason) {
  if (s->stage >= STAGE_BREAKING)
    return;
  log_warn("stopping at once: running jobs are given back", LOG_T("reason", reason));
  s->stage = STAGE_BREAKING;
  s->break_checks = BREAK_CHECKS;
  uv_timer_start(&s->stop_timer, on_stop_timeout, LEAVE_TIMEOUT_MS / BREAK_CHECKS, LEAVE_TIMEOUT_MS / BREAK_CHECKS);
  kill_all(s);
  advance(s);
}

static void on_stop_timeout(uv_timer_t *timer) {
  struct supervisor *s = timer->data;
  if (s->stage == STAGE_FINISHING)
    begin_breaking(s, s->break_reason);
  else if (s->stage != STAGE_BREAKING)
    kill_all(s);
  else if (--s->break_checks == 0 || slot_list_is_cut_off(&s->slots))
    begin_leaving(s); /* the database does not answer: it releases the jobs when the connections close */
}

/* Logs `reason`; NULL: the user has been told already. */
static void begin_finishing(struct supervisor *s, const char *reason) {
  if (s->stage >= STAGE_FINISHING)
    return;
  if (reason)
    log_info("stopping", LOG_T("reason", reason));
  s->stage = STAGE_FINISHING;
  status_set_stage(s->worker_status, "stopping");
  s->break_reason = "the grace time is over";
  wakeup_stop(s->wakeup);
  reload_stop(s->reload);
  uv_timer_start(&s->stop_timer, on_stop_timeout, (uint64_t)s->options->grace_ms, 0);
  for (int i = 0; i < s->slots.count; i++)
    slot_finish(s->slots.items[i]);
  advance(s);
}

static void begin_leaving(struct supervisor *s) {
  s->stage = STAGE_LEAVING;
  uv_timer_start(&s->stop_timer, on_stop_timeout, LEAVE_TIMEOUT_MS, 0);
  for (int i = 0; i < s->slots.count; i++)
    slot_leave(s->slots.items[i]);
  if (s->control)
    control_leave(s->control);
  else
    s->control_left = true;
}

static void close_all(struct supervisor *s) {
  s->stage = STAGE_GONE;
  endpoints_free(s->endpoints);
  status_unwatch(s->worker_status);
  slot_list_free(&s->slots);
  reload_free(s->reload);
  buffer_free(&s->reload_error);
  file_changes_free(s->watch);
  sources_drop(s->sources);
  script_options_free(&s->script_options);
  output_pipes_free(s->output);
  control_free(s->control);
  wakeup_free(s->wakeup);
  claim_gate_free(s->gate);
  uv_close((uv_handle_t *)&s->stop_timer, NULL);
  uv_close((uv_handle_t *)&s->free_timer, NULL);
  stop_signals_close(&s->signals);
}

static void on_gone(uv_timer_t *timer) {
  close_all(timer->data);
}

/* Enters the next stage of a stop if the current one is complete. The caller may be freed by the last stage, so that
 * stage waits for the loop's next turn. */
static void advance(struct supervisor *s) {
  if ((s->stage == STAGE_FINISHING || s->stage == STAGE_BREAKING) && slot_list_is_at_rest(&s->slots))
    begin_leaving(s);
  if (s->stage == STAGE_LEAVING && s->control_left && slot_list_is_dead(&s->slots))
    uv_timer_start(&s->free_timer, on_gone, 0, 0);
}

/* ── signals ── */

static void on_stop_signal(void *owner, const char *signal) {
  begin_finishing(owner, signal);
}

static void on_reload_signal(void *owner, const char *signal) {
  reload(owner, signal, NULL);
}

static void on_hurry_signal(void *owner, int64_t in_ms) {
  struct supervisor *s = owner;
  if (in_ms == 0)
    begin_breaking(s, "a second signal");
  else if (s->stage == STAGE_FINISHING && uv_timer_get_due_in(&s->stop_timer) > (uint64_t)in_ms) {
    s->break_reason = "a second signal";
    uv_timer_start(&s->stop_timer, on_stop_timeout, (uint64_t)in_ms, 0);
  }
}

static bool on_is_executor(void *owner, pid_t pid) {
  const struct supervisor *s = owner;
  return slot_list_has_executor(&s->slots, pid);
}

static bool on_is_stuck(void *owner) {
  const struct supervisor *s = owner;
  return slot_list_is_cut_off(&s->slots) || output_is_stalled(OUTPUT_STDERR, STUCK_LOG_MS);
}

static const struct signal_events signal_events = {on_stop_signal, on_reload_signal, on_hurry_signal, on_is_executor,
                                                   on_is_stuck};

static void set_up(struct supervisor *s) {
  uv_timeval64_t now;
  uv_gettimeofday(&now);
  uv_loop_init(&s->loop);
  uv_timer_init(&s->loop, &s->stop_timer);
  uv_timer_init(&s->loop, &s->free_timer);
  s->stop_timer.data = s->free_timer.data = s;
  s->start.output = s->output = output_pipes_new(&s->loop);
  stop_signals_start(&s->signals, &s->loop, &signal_events, s);
  s->wakeup = wakeup_new(&s->loop, s->options, &s->queues, &s->sweep, &wakeup_events, s);
  s->gate = claim_gate_new(&s->loop, hold_claim_through_gate);
  s->slot_start = (struct slot_start){.loop = &s->loop,
                                      .options = s->options,
                                      .child = &s->start,
                                      .sources = &s->sources,
                                      .queues = &s->queues,
                                      .sweep = &s->sweep,
                                      .mode = &s->mode,
                                      .gate = s->gate,
                                      .frontier = &s->frontier,
                                      .history = &s->history,
                                      .counts = &s->counts,
                                      .wakeup = s->wakeup,
                                      .isolation = &s->isolation,
                                      .events = &slot_events,
                                      .owner = s};
  s->slots.start = &s->slot_start;
  s->worker_status = status_new(s->options, s->start.argv[s->start.script], &s->slots, &s->queues, &s->mode);
  s->view = (struct worker_view){.options = s->options,
                                 .slots = &s->slots,
                                 .queues = &s->queues,
                                 .mode = &s->mode,
                                 .counts = &s->counts,
                                 .status = s->worker_status,
                                 .control = &s->control,
                                 .started_s = (double)now.tv_sec + (double)now.tv_usec / 1e6};
  s->reload = reload_new(&s->loop, &s->slots, &s->options->executors, &s->sources, &reload_events, s);
}

int supervisor_run(struct options *options, int argc, char **argv, int script) {
  struct supervisor supervisor = {.options = options}, *s = &supervisor;
  s->start = (struct child_start){
      .conninfo = options->db, .argc = argc, .argv = argv, .script = script, .max_memory = options->max_memory};
  log_setup((enum log_level)options->log_level, (enum log_format)options->log_format);
  memory_set_limits();
  set_up(s);
  if (options->watch)
    s->watch = file_changes_new(&s->loop, on_file_changed, s);
  if (!executable_memory_works())
    log_warn("LuaJIT's compiler is off, since memory that is written must not be executed here");
  start_endpoints(s);
  if (s->status == 0)
    slot_start_executor(slot_list_add(&s->slots));
  else
    begin_finishing(s, NULL);
  uv_run(&s->loop, UV_RUN_DEFAULT);
  uv_loop_close(&s->loop);
  queue_list_free(&s->queues);
  status_free(s->worker_status);
  if (s->status == 0)
    log_info("worker has stopped");
  output_stop(OUTPUT_STALLED_MS, OUTPUT_MOST_MS);
  return s->status;
}
