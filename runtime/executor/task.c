#include "task.h"

#include <stdlib.h>

#include "clock.h"
#include "memory.h"
#include "message.h"

/* A frame of jobs: those before `jobs.at` have had their turn. */
struct task_batch {
  struct task_batch *next;
  char *bytes;
  struct frame jobs;
  uint32_t number;
  uint32_t left;
  bool recalled; /* all of it */
  uint32_t *recalled_queues;
  uint32_t recalled_count;
};

struct task_list {
  struct script *script;
  struct shared_page *page;
  struct outbox *outbox;
  struct buffer fields; /* of the outcome at hand */
  struct task_batch *first, **last;
};

struct task_list *task_list_new(struct script *script, struct shared_page *page, struct outbox *outbox) {
  struct task_list *list = memory_new(sizeof *list);
  *list = (struct task_list){.script = script, .page = page, .outbox = outbox};
  list->last = &list->first;
  return list;
}

static void drop_first(struct task_list *list) {
  struct task_batch *batch = list->first;
  list->first = batch->next;
  if (!list->first)
    list->last = &list->first;
  free(batch->recalled_queues);
  free(batch->bytes);
  free(batch);
}

void task_list_free(struct task_list *list) {
  while (list->first)
    drop_first(list);
  buffer_free(&list->fields);
  free(list);
}

bool task_list_add(struct task_list *list, struct frame *frame) {
  struct message_jobs jobs;
  if (!message_get_jobs(frame, &jobs))
    return false;
  size_t length = frame_left(frame);
  struct task_batch *batch = memory_new(sizeof *batch);
  *batch = (struct task_batch){.number = jobs.batch, .left = jobs.count, .bytes = memory_copy(frame->at, length)};
  batch->jobs.at = (const unsigned char *)batch->bytes;
  batch->jobs.end = batch->jobs.at + length;
  *list->last = batch;
  list->last = &batch->next;
  return true;
}

static bool is_recalled(const struct task_batch *batch, uint32_t queue) {
  bool recalled = batch->recalled;
  for (uint32_t i = 0; i < batch->recalled_count && !recalled; i++)
    recalled = batch->recalled_queues[i] == queue;
  return recalled;
}

static void recall(struct task_batch *batch, uint32_t queue) {
  if (queue == QUEUE_ALL) {
    batch->recalled = true;
    return;
  }
  if (is_recalled(batch, queue))
    return;
  size_t size = (batch->recalled_count + 1) * sizeof *batch->recalled_queues;
  batch->recalled_queues = memory_resize(batch->recalled_queues, size);
  batch->recalled_queues[batch->recalled_count++] = queue;
}

void task_list_recall(struct task_list *list, uint32_t number, uint32_t queue) {
  for (struct task_batch *batch = list->first; batch; batch = batch->next)
    if (batch->number == number)
      recall(batch, queue);
}

static size_t at_most(size_t length) {
  return length < ERROR_TEXT_MOST + 4 ? length
                                      : ERROR_TEXT_MOST + 4; /* more than the most: so it shows that it was cut */
}

static void put_outcome(struct task_list *list, uint32_t batch, uint32_t index, const struct script_end *end,
                        int64_t duration_us) {
  struct buffer *fields = &list->fields;
  fields->length = 0;
  message_put_outcome(fields, &(struct message_outcome){.batch = batch,
                                                        .index = index,
                                                        .outcome = end->outcome,
                                                        .backoff = end->backoff,
                                                        .duration_us = (uint64_t)duration_us,
                                                        .error = end->error,
                                                        .error_length = at_most(end->error_length),
                                                        .traceback = end->traceback,
                                                        .traceback_length = at_most(end->traceback_length)});
  outbox_add_outcome(list->outbox, fields);
}

/* Says on the shared page that a job begins; false when the supervisor has taken its batch back (see protocol.h). */
static bool may_begin(struct task_list *list, const struct task_batch *batch, uint32_t position) {
  struct page_lane *lane = &list->page->lanes[batch->number % HOLDS_PER_EXECUTOR];
  atomic_store(&lane->begun, PAGE_TASK(batch->number, position));
  return (int32_t)(batch->number - atomic_load(&lane->revoked)) > 0;
}

/* Runs one job; the shared page says which, so that a death can be told from whose it was. */
static void run(struct task_list *list, struct task_batch *batch, const struct message_job *job) {
  struct script_job given = {.queue = job->queue,
                             .id = job->id,
                             .attempt = job->attempt,
                             .retries_left = job->retries_left,
                             .created_at = job->created_at,
                             .run_after = job->run_after,
                             .data = job->data,
                             .data_length = job->data_length};
  struct script_end end = {.outcome = OUTCOME_UNRUN};
  int64_t duration_us = 0;
  if (!is_recalled(batch, job->queue) && may_begin(list, batch, job->position)) {
    int64_t start_us = clock_us();
    atomic_store_explicit(&list->page->started_us, start_us, memory_order_relaxed);
    atomic_store_explicit(&list->page->current_job, job->id, memory_order_release);
    script_run(list->script, &given, &end);
    duration_us = clock_us() - start_us;
  }
  if (end.backoff) /* the rest of this queue is not to run into the same wall */
    for (struct task_batch *other = list->first; other; other = other->next)
      recall(other, job->queue);
  put_outcome(list, batch->number, job->index, &end, duration_us);
  atomic_store_explicit(&list->page->current_job, 0, memory_order_release);
}

bool task_list_step(struct task_list *list) {
  struct task_batch *batch = list->first;
  struct message_job job;
  if (!batch || !message_get_job(&batch->jobs, &job)) /* the frame was checked when it came */
    return false;
  run(list, batch, &job);
  if (--batch->left == 0)
    drop_first(list);
  return true;
}

bool task_list_is_empty(const struct task_list *list) {
  return !list->first;
}
