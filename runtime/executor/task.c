#include "task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "forked.h"
#include "inbox.h"
#include "memory.h"
#include "message.h"
#include "process_calls.h"
#include "process_state.h"

/* How long a task may wait during its clean-up after an interrupt. After that, each of its waits raises an error at
 * once. */
enum { TIMEOUT_CLEAN_MS = 5000, CANCEL_CLEAN_MS = 1000 };

/* How long the task may then run until the supervisor kills its process. */
enum { FINAL_MS = 1000 };

/* The settings of the process are compared after a call that may have changed them, and also this often, since there
 * are calls that are not noticed. A comparison takes about ninety system calls. */
enum { COMPARE_US = 200000 };

/* A job from its begin to its end. */
struct task {
  struct task_list *list;
  uint32_t number;
  struct task *next; /* in the list of tasks that may continue, or of free tasks */
  bool waits, ready, watched, transactional;
  uint32_t batch, index, queue;
  int64_t id;
  int64_t started_us, busy_us;
  int64_t timeout_ms; /* 0: none */
  bool interrupted, final;
  enum script_interrupt why;
  int64_t kill_at_us;
  uv_timer_t limit;           /* while the task waits: its time limit, or the end of its clean-up */
  struct process_state *kept; /* while it waits: its own settings of the process; NULL: it has none */
  bool kept_script;           /* while it waits: it has settings of its own of the Lua state */
};

/* A queue: its limits from FRAME_SERVE, and its tasks that wait. */
struct queue_limit {
  uint32_t concurrency;
  int64_t timeout_ms;
  bool preserve;
  uint32_t waiting;
  bool waits; /* whether its last task waited */
};

struct task_list {
  uv_loop_t *loop;
  struct script *script;
  struct shared_page *page;
  struct outbox *outbox;
  struct memory_pressure *pressure;
  const struct task_events *events;
  void *owner;
  struct inbox inbox;
  struct task **tasks; /* by number */
  uint32_t task_count;
  struct task *free, *first, **last; /* free tasks; tasks that may continue, in order */
  struct task *current;
  uint32_t waiting;
  uint32_t shared, concurrency; /* tasks that wait, of queues without their own limit, and the limit for them */
  uint32_t transactional, transactional_most; /* transactional jobs that run, and the limit for them */
  struct queue_limit *queues;                 /* NULL before SERVE */
  uint32_t queue_count;
  struct buffer fields;           /* of an outcome; kept for its memory */
  struct process_state *settings; /* those that each job begins with */
  int64_t compared_us;
  bool spent; /* a handler has left what cannot be undone: no job may begin */
};

struct task_list *task_list_new(uv_loop_t *loop, struct script *script, struct shared_page *page, struct outbox *outbox,
                                struct memory_pressure *pressure, const struct task_events *events, void *owner) {
  struct task_list *list = memory_new(sizeof *list);
  *list = (struct task_list){.loop = loop,
                             .script = script,
                             .page = page,
                             .outbox = outbox,
                             .pressure = pressure,
                             .events = events,
                             .owner = owner,
                             .settings = process_state_take()};
  process_calls_forget();
  inbox_init(&list->inbox);
  list->last = &list->first;
  return list;
}

void task_list_close(struct task_list *list) {
  for (uint32_t i = 0; i < list->task_count; i++)
    uv_close((uv_handle_t *)&list->tasks[i]->limit, NULL);
}

void task_list_free(struct task_list *list) {
  for (uint32_t i = 0; i < list->task_count; i++) {
    process_state_free(list->tasks[i]->kept);
    free(list->tasks[i]);
  }
  process_state_free(list->settings);
  inbox_free(&list->inbox);
  buffer_free(&list->fields);
  free(list->tasks);
  free(list->queues);
  free(list);
}

bool task_list_serve(struct task_list *list, struct frame *frame) {
  struct message_serve serve;
  if (list->queues || !message_get_serve(frame, &serve))
    return false;
  bool right = serve.queue_count == script_queue_count(list->script);
  list->queues = memory_new((serve.queue_count + 1) * sizeof *list->queues);
  list->queue_count = serve.queue_count;
  list->concurrency = serve.concurrency;
  list->transactional_most = TRANSACTIONAL_MOST(serve.pool);
  for (uint32_t i = 0; i < serve.queue_count; i++)
    list->queues[i] = (struct queue_limit){.concurrency = serve.queues[i].concurrency,
                                           .timeout_ms = serve.queues[i].timeout_ms,
                                           .preserve = serve.queues[i].preserve_completed};
  script_serve(list->script, serve.pool, serve.prepare, serve.version);
  message_free_serve(&serve);
  return right;
}

bool task_list_add(struct task_list *list, struct frame *frame) {
  return list->queues && inbox_add(&list->inbox, frame, list->queue_count);
}

void task_list_recall(struct task_list *list, uint32_t batch, uint32_t queue) {
  inbox_recall(&list->inbox, batch, queue);
}

uint32_t task_list_count_waiting(const struct task_list *list) {
  return list->waiting;
}

/* ── tasks ── */

static struct task *new_task(struct task_list *list) {
  struct task *task = list->free;
  if (task) {
    list->free = task->next;
    return task;
  }
  if ((list->task_count & (list->task_count - 1)) == 0) { /* 0 or a power of two: the array is full */
    uint32_t room = list->task_count ? 2 * list->task_count : 1;
    list->tasks = memory_resize(list->tasks, room * sizeof(struct task *));
  }
  task = memory_new(sizeof *task);
  task->list = list;
  task->number = list->task_count;
  uv_timer_init(list->loop, &task->limit);
  task->limit.data = task;
  list->tasks[list->task_count++] = task;
  return task;
}

static void free_task(struct task_list *list, struct task *task) {
  task->next = list->free;
  list->free = task;
}

bool task_list_current(const struct task_list *list, uint32_t *number) {
  if (list->current)
    *number = list->current->number;
  return list->current != NULL;
}

void task_list_watch(struct task_list *list, uint32_t number) {
  if (number < list->task_count)
    list->tasks[number]->watched = true;
}

static void make_ready(struct task_list *list, struct task *task) {
  if (!task->waits || task->ready || task == list->current)
    return;
  task->ready = true;
  task->next = NULL;
  *list->last = task;
  list->last = &task->next;
  list->events->work(list->owner);
}

void task_list_ready(struct task_list *list, uint32_t number) {
  if (number < list->task_count)
    make_ready(list, list->tasks[number]);
}

/* ── interrupting ── */

static void on_limit(uv_timer_t *timer);

static void interrupt(struct task *task, enum script_interrupt why, bool final) {
  struct task_list *list = task->list;
  int64_t clean_ms = why == SCRIPT_TIMEOUT ? TIMEOUT_CLEAN_MS : CANCEL_CLEAN_MS;
  task->why = why;
  task->interrupted = true;
  task->final = final;
  task->kill_at_us = clock_us() + (final ? 0 : clean_ms * 1000) + (int64_t)FINAL_MS * 1000;
  uv_timer_stop(&task->limit);
  if (!final)
    uv_timer_start(&task->limit, on_limit, (uint64_t)clean_ms, 0);
  script_interrupt(list->script, task->number, why, final);
  make_ready(list, task);
}

static void on_limit(uv_timer_t *timer) {
  struct task *task = timer->data;
  if (task->interrupted)
    interrupt(task, task->why, true);
  else
    interrupt(task, SCRIPT_TIMEOUT, false);
}

void task_list_cancel(struct task_list *list, uint32_t batch, uint32_t index) {
  inbox_cancel(&list->inbox, batch, index);
  for (uint32_t i = 0; i < list->task_count; i++) {
    struct task *task = list->tasks[i];
    if (task->waits && task->batch == batch && task->index == index && !task->final)
      interrupt(task, SCRIPT_CANCELLED, false);
  }
}

/* ── running ── */

static size_t at_most(size_t length) {
  /* The length is more than the supervisor keeps, so that it notices the cut and adds an ellipsis. */
  return length < ERROR_TEXT_MOST + 4 ? length : ERROR_TEXT_MOST + 4;
}

static void put_outcome(struct task_list *list, const struct task *task, struct job_outcome outcome,
                        int64_t duration_us) {
  outcome.batch = task->batch;
  outcome.index = task->index;
  outcome.waited = task->waits;
  outcome.duration_us = (uint64_t)duration_us;
  outcome.busy_us = (uint64_t)task->busy_us;
  outcome.error_length = at_most(outcome.error_length);
  outcome.traceback_length = at_most(outcome.traceback_length);
  list->fields.length = 0;
  message_put_outcome(&list->fields, &outcome);
  outbox_add_outcome(list->outbox, &list->fields);
}

/* ── settings that all jobs share ── */

static void bring_settings(struct task_list *list, struct task *task) {
  struct buffer unused = {0};
  if (task->kept) {
    process_state_restore(task->kept, &unused, &unused);
    process_state_free(task->kept);
    task->kept = NULL;
    list->compared_us = 0; /* they are to be undone again */
  }
  if (task->kept_script)
    script_bring_settings(list->script, task->number);
  task->kept_script = false;
  buffer_free(&unused);
}

/* The handler has ended, or begun to wait: what it has set is undone, and kept for its continuation. */
static void restore_settings(struct task_list *list, struct task *task, bool waits, int64_t now_us) {
  struct buffer changed = {0}, lost = {0};
  bool script = script_settings_changed(list->script);
  bool process = process_calls_seen() || now_us - list->compared_us >= COMPARE_US;
  if (!script && !process)
    return;
  list->compared_us = now_us;
  if (script)
    script_restore_settings(list->script, task->number, waits, &changed, &lost);
  task->kept_script = waits && changed.length > 0;
  if (process && process_state_differs(list->settings)) {
    task->kept = waits ? process_state_take() : NULL;
    process_state_restore(list->settings, &changed, &lost);
  }
  process_calls_forget();
  list->spent = list->spent || lost.length > 0;
  if (lost.length > 0)
    list->events->left(list->owner, task->id, (const char *)lost.bytes, lost.length, true);
  else if (changed.length > 0 && !waits)
    list->events->left(list->owner, task->id, (const char *)changed.bytes, changed.length, false);
  buffer_free(&changed);
  buffer_free(&lost);
}

/* Writes to the shared page which handler runs, so that the supervisor can tell which job was running at a death. */
static int64_t enter(struct task_list *list, struct task *task) {
  struct shared_page *page = list->page;
  int64_t now_us = clock_us();
  if (task->started_us == 0) {
    task->started_us = now_us;
    task->kill_at_us = task->timeout_ms > 0 ? now_us + task->timeout_ms * 1000 : 0;
  }
  list->current = task;
  atomic_store_explicit(&page->started_us, task->started_us, memory_order_relaxed);
  atomic_store_explicit(&page->resumed_us, now_us, memory_order_relaxed);
  atomic_store_explicit(&page->kill_at_us, task->kill_at_us, memory_order_relaxed);
  atomic_store_explicit(&page->current_job, task->id, memory_order_relaxed);
  atomic_store_explicit(&page->runs, 1, memory_order_release);
  return now_us;
}

/*
 * Whether the job is to go back to the supervisor: the executor is spent; or the waiting tasks have used most of the
 * memory; or the job is
 * transactional and no connection is left for it; or its queue has its own limit and has reached it.
 */
static bool is_full(const struct task_list *list, const struct message_job *job) {
  const struct queue_limit *limit = &list->queues[job->queue];
  if (list->spent || (list->waiting > 0 && memory_pressure_is_high(list->pressure)))
    return true;
  if (job->settles && list->transactional >= list->transactional_most)
    return true;
  return limit->concurrency > 0 && limit->waiting >= limit->concurrency;
}

/*
 * Whether the job has to stay in the inbox until a task ends, because as many tasks wait as the executor's concurrency
 * allows. A job whose queue's last task did not wait is expected not to wait, and begins; if it does wait, the limit is
 * exceeded by one.
 */
static bool must_wait(const struct task_list *list, const struct message_job *job) {
  const struct queue_limit *queue = &list->queues[job->queue];
  return queue->concurrency == 0 && queue->waits && list->shared >= list->concurrency &&
         inbox_may_begin(&list->inbox, job);
}

/* Counts one more (1) or one less (-1) waiting task of the queue. */
static void count_waiting(struct task_list *list, uint32_t queue, int change) {
  list->waiting += (uint32_t)change;
  list->queues[queue].waiting += (uint32_t)change;
  if (list->queues[queue].concurrency == 0)
    list->shared += (uint32_t)change;
}

static void set_aside(struct task_list *list, struct task *task, int64_t now_us) {
  if (!task->waits) {
    task->waits = list->queues[task->queue].waits = true;
    count_waiting(list, task->queue, 1);
  }
  if (task->timeout_ms == 0 || task->interrupted || uv_is_active((uv_handle_t *)&task->limit))
    return;
  int64_t left_ms = task->timeout_ms - (now_us - task->started_us) / 1000;
  uv_update_time(list->loop);
  uv_timer_start(&task->limit, on_limit, left_ms > 0 ? (uint64_t)left_ms : 0, 0);
}

static void end_task(struct task_list *list, struct task *task, const struct job_outcome *end, int64_t now_us) {
  if (end->backoff) /* the queue is to pause: its other jobs go back */
    inbox_recall(&list->inbox, 0, task->queue);
  put_outcome(list, task, *end, now_us - task->started_us);
  list->queues[task->queue].waits = task->waits;
  if (task->waits) {
    count_waiting(list, task->queue, -1);
    uv_timer_stop(&task->limit);
  }
  task->waits = false;
  list->transactional -= task->transactional;
  if (task->watched)
    script_ended(list->script, task->number);
  free_task(list, task);
}

/* The handler has returned to C: its task waits or has ended. */
static void leave(struct task_list *list, struct task *task, const struct job_outcome *end, int64_t entered_us) {
  if (forked_is_child()) /* the handler has forked, and the child has returned: the job is its parent's */
    forked_end(end->outcome != OUTCOME_COMPLETE && end->outcome != OUTCOME_SETTLED, end->error, end->error_length);
  int64_t now_us = clock_us();
  list->current = NULL;
  task->busy_us += now_us - entered_us;
  if (end->outcome == OUTCOME_NONE)
    set_aside(list, task, now_us);
  else
    end_task(list, task, end, now_us);
  restore_settings(list, task, end->outcome == OUTCOME_NONE, now_us);
  atomic_store_explicit(&list->page->runs, 0, memory_order_release); /* after its outcome is in the outbox */
}

static void go_on(struct task_list *list) {
  struct task *task = list->first;
  struct job_outcome end;
  list->first = task->next;
  if (!list->first)
    list->last = &list->first;
  task->ready = false;
  int64_t entered_us = enter(list, task);
  bring_settings(list, task);
  script_resume(list->script, task->number, &end);
  leave(list, task, &end, entered_us);
}

/* Writes to the shared page that a job begins. Returns false if the supervisor has revoked its batch (see
 * protocol.h). */
static bool may_begin(struct task_list *list, uint32_t batch, uint32_t position) {
  struct page_lane *lane = &list->page->lanes[batch % HOLDS_PER_EXECUTOR];
  atomic_store(&lane->begun, PAGE_TASK(batch, position));
  atomic_store_explicit(&list->page->seal, page_seal(list->page), memory_order_relaxed);
  return (int32_t)(batch - atomic_load(&lane->revoked)) > 0;
}

/* Beside its data a job needs some memory to begin. */
enum { LARGE_DATA = 1 << 20, MARGIN = 1 << 20 };

static bool fits(const struct task_list *list, size_t length) {
  if (length < LARGE_DATA || memory_has(length + MARGIN))
    return true;
  script_collect(list->script);
  return memory_has(length + MARGIN);
}

static void explain_refusal(struct task_list *list, const char *what, size_t bytes, char *text, size_t size) {
  enum { MB = 1 << 20 };
  memory_pressure_measure(list->pressure);
  snprintf(text, size,
           "%s, %.1f MB, does not fit into the memory of its executor, which has %.0f MB (--max-memory) and uses %.1f "
           "MB of it",
           what, (double)bytes / MB, (double)list->pressure->limit / MB, (double)list->pressure->used / MB);
}

/* `others`: whether other jobs use the memory. */
static void refuse(struct task_list *list, uint32_t batch, const struct message_job *job, bool others) {
  struct task none = {.batch = batch, .index = job->index};
  struct job_outcome end = {.outcome = OUTCOME_FAIL, .wait_ms = -1};
  char text[200];
  explain_refusal(list, "the data of the job", job->data_length, text, sizeof text);
  end.error = text;
  end.error_length = strlen(text);
  if (!may_begin(list, batch, job->position) || others) {
    end.outcome = OUTCOME_UNRUN;
    end.backoff = others;
  }
  put_outcome(list, &none, end, 0);
}

void task_list_refuse(struct task_list *list, uint32_t batch, const struct message_job *job) {
  refuse(list, batch, job, list->waiting > 0 || inbox_has_more(&list->inbox, 0));
}

bool task_list_refuse_all(struct task_list *list, struct frame *frame) {
  struct message_jobs jobs;
  struct message_job job;
  char text[200];
  size_t length = frame_left(frame);
  if (!list->queues || !message_get_jobs(frame, &jobs) || jobs.last_queue >= list->queue_count)
    return false;
  explain_refusal(list, "the data of several jobs", length, text, sizeof text);
  for (uint32_t i = 0; i < jobs.count && message_get_job(frame, &job); i++) {
    struct task none = {.batch = jobs.batch, .index = job.index};
    put_outcome(
        list, &none,
        (struct job_outcome){
            .outcome = OUTCOME_UNRUN, .wait_ms = -1, .backoff = true, .error = text, .error_length = strlen(text)},
        0);
  }
  return true;
}

static void begin(struct task_list *list, uint32_t batch, const struct message_job *job) {
  struct job_outcome end = {.outcome = OUTCOME_UNRUN, .wait_ms = -1};
  if (inbox_may_begin(&list->inbox, job) && !fits(list, job->data_length)) {
    refuse(list, batch, job, list->waiting > 0 || inbox_has_more(&list->inbox, 1));
    return;
  }
  struct task *task = new_task(list);
  task->waits = task->ready = task->watched = task->interrupted = task->final = false;
  task->batch = batch;
  task->index = job->index;
  task->queue = job->queue;
  task->id = job->id;
  task->started_us = task->busy_us = 0;
  task->timeout_ms = list->queues[job->queue].timeout_ms;
  if (!inbox_may_begin(&list->inbox, job) || is_full(list, job) || !may_begin(list, batch, job->position)) {
    put_outcome(list, task, end, 0);
    free_task(list, task);
    return;
  }
  task->transactional = job->settles;
  list->transactional += task->transactional;
  int64_t entered_us = enter(list, task);
  script_begin(list->script, task->number, job, list->queues[job->queue].preserve, task->timeout_ms, &end);
  leave(list, task, &end, entered_us);
}

bool task_list_step(struct task_list *list) {
  struct message_job job;
  uint32_t batch;
  bool ready = list->first != NULL;
  if (!ready && (!inbox_peek(&list->inbox, &batch, &job) || must_wait(list, &job))) {
    atomic_store_explicit(&list->page->all_waiting, 1, memory_order_release);
    return false;
  }
  atomic_store_explicit(&list->page->all_waiting, 0, memory_order_release);
  if (ready) {
    go_on(list);
  } else {
    begin(list, batch, &job);
    inbox_drop(&list->inbox);
  }
  return true;
}
