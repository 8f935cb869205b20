/* Jobs that are refused, since there is no memory for their data. */
#include <stdio.h>
#include <string.h>

#include "inbox.h"
#include "memory.h"
#include "message.h"
#include "task_state.h"

/* Beside its data a job needs some memory to begin. */
enum { LARGE_DATA = 1 << 20, MARGIN = 1 << 20 };

bool task_fits(const struct task_list *list, size_t length) {
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

void task_refuse(struct task_list *list, uint32_t batch, const struct message_job *job, bool others) {
  struct task none = {.batch = batch, .index = job->index};
  struct job_outcome end = {.outcome = OUTCOME_FAIL, .wait_ms = -1};
  char text[200];
  explain_refusal(list, "the data of the job", job->data_length, text, sizeof text);
  end.error = text;
  end.error_length = strlen(text);
  if (!task_may_begin(list, batch, job->position) || others) {
    end.outcome = OUTCOME_UNRUN;
    end.backoff = others;
  }
  task_put_outcome(list, &none, end, 0);
}

void task_list_refuse(struct task_list *list, uint32_t batch, const struct message_job *job) {
  task_refuse(list, batch, job, list->waiting > 0 || inbox_has_more(&list->inbox, 0));
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
    task_put_outcome(
        list, &none,
        (struct job_outcome){
            .outcome = OUTCOME_UNRUN, .wait_ms = -1, .backoff = true, .error = text, .error_length = strlen(text)},
        0);
  }
  return true;
}
