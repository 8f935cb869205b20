#include "task.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "forked.h"
#include "inbox.h"
#include "memory.h"
#include "message.h"
#include "process_calls.h"
#include "process_state.h"
#include "task_state.h"

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

void task_make_ready(struct task_list *list, struct task *task) {
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
    task_make_ready(list, list->tasks[number]);
}

/* ── running ── */

static size_t at_most(size_t length) {
  /* The length is more than the supervisor keeps, so that it notices the cut and adds an ellipsis. */
  return length < ERROR_TEXT_MOST + 4 ? length : ERROR_TEXT_MOST + 4;
}

void task_put_outcome(struct task_list *list, const struct task *task, struct job_outcome outcome,
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
  uv_timer_start(&task->limit, task_on_limit, left_ms > 0 ? (uint64_t)left_ms : 0, 0);
}

static void end_task(struct task_list *list, struct task *task, const struct job_outcome *end, int64_t now_us) {
  if (end->backoff) /* the queue is to pause: its other jobs go back */
    inbox_recall(&list->inbox, 0, task->queue);
  task_put_outcome(list, task, *end, now_us - task->started_us);
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
  task_restore_settings(list, task, end->outcome == OUTCOME_NONE, now_us);
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
  task_bring_settings(list, task);
  script_resume(list->script, task->number, &end);
  leave(list, task, &end, entered_us);
}

bool task_may_begin(struct task_list *list, uint32_t batch, uint32_t position) {
  struct page_lane *lane = &list->page->lanes[batch % HOLDS_PER_EXECUTOR];
  atomic_store(&lane->begun, PAGE_TASK(batch, position));
  atomic_store_explicit(&list->page->seal, page_seal(list->page), memory_order_relaxed);
  return (int32_t)(batch - atomic_load(&lane->revoked)) > 0;
}

static void begin(struct task_list *list, uint32_t batch, const struct message_job *job) {
  struct job_outcome end = {.outcome = OUTCOME_UNRUN, .wait_ms = -1};
  if (inbox_may_begin(&list->inbox, job) && !task_fits(list, job->data_length)) {
    task_refuse(list, batch, job, list->waiting > 0 || inbox_has_more(&list->inbox, 1));
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
  if (!inbox_may_begin(&list->inbox, job) || is_full(list, job) || !task_may_begin(list, batch, job->position)) {
    task_put_outcome(list, task, end, 0);
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
