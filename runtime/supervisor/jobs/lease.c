#include "lease.h"

#include <stdlib.h>

#include "clock.h"
#include "log.h"
#include "memory.h"

void lease_list_free(struct lease_list *list) {
  for (int i = 0; i < list->count; i++)
    job_free(&list->items[i].job);
  free(list->items);
  *list = (struct lease_list){0};
}

void lease_list_add_from(struct lease_list *list, const struct batch *batch) {
  for (int i = 0; i < batch->count; i++) {
    if (batch->jobs[i].outcome != OUTCOME_LEASE)
      continue;
    list->items = memory_resize(list->items, (size_t)(list->count + 1) * sizeof *list->items);
    struct lease *lease = &list->items[list->count++];
    *lease =
        (struct lease){.job = batch->jobs[i], .batch = batch->number, .index = (uint32_t)i, .since_ms = clock_ms()};
    lease->job.outcome = OUTCOME_NONE;
  }
}

struct job *lease_list_end(struct lease_list *list, const struct job_outcome *outcome) {
  for (int i = 0; i < list->count; i++) {
    struct lease *lease = &list->items[i];
    if (lease->batch != outcome->batch || lease->index != outcome->index || lease->job.outcome != OUTCOME_NONE)
      continue;
    job_end(&lease->job, outcome);
    return &lease->job;
  }
  return NULL;
}

void lease_list_child_died(struct lease_list *list, const struct child_death *death) {
  for (int i = 0; i < list->count; i++) {
    struct job *job = &list->items[i].job;
    if (job->outcome != OUTCOME_NONE)
      continue;
    if (!death->cause || (death->has_culprit && job->id != death->culprit)) {
      job->outcome = OUTCOME_UNRUN;
      continue;
    }
    job_died(job, death->has_culprit || (death->alone && job->deaths > 0), death->cause);
    job->duration_us = (uint64_t)death->ran_us;
    job->began_us = death->has_culprit ? clock_us() - death->ran_us : 0;
  }
}

void lease_list_give_back(struct lease_list *list, uint32_t batch) {
  for (int i = 0; i < list->count; i++)
    if (list->items[i].batch == batch && list->items[i].job.outcome == OUTCOME_NONE)
      list->items[i].job.outcome = OUTCOME_UNRUN;
}

bool lease_list_has(const struct lease_list *list, uint32_t batch) {
  for (int i = 0; i < list->count; i++)
    if (list->items[i].batch == batch && list->items[i].job.outcome == OUTCOME_NONE)
      return true;
  return false;
}

struct lease *lease_list_lose(struct lease_list *list, int64_t id, bool cancelled) {
  for (int i = 0; i < list->count; i++) {
    struct lease *lease = &list->items[i];
    if (lease->job.id != id || lease->lost)
      continue;
    lease->lost = true;
    lease->cancelled = cancelled;
    lease->lost_ms = clock_ms();
    return lease->job.outcome == OUTCOME_NONE ? lease : NULL;
  }
  return NULL;
}

bool lease_list_miss(struct lease_list *list, int64_t id) {
  for (int i = 0; i < list->count; i++) {
    struct lease *lease = &list->items[i];
    if (lease->job.id != id || lease->missed || !lease->job.transactional)
      continue;
    lease->missed = true;
    return true;
  }
  return false;
}

void lease_list_drop(struct lease_list *list, int64_t id) {
  int kept = 0;
  for (int i = 0; i < list->count; i++)
    if (list->items[i].job.id != id)
      list->items[kept++] = list->items[i];
    else
      job_free(&list->items[i].job);
  list->count = kept;
}

int lease_list_busy(const struct lease_list *list) {
  int busy = 0;
  for (int i = 0; i < list->count; i++)
    busy += list->items[i].job.outcome == OUTCOME_NONE;
  return busy;
}

int lease_list_ended(const struct lease_list *list) {
  return list->count - lease_list_busy(list);
}

void lease_list_collect(struct lease_list *list, struct batch *batch) {
  int kept = 0;
  for (int i = 0; i < list->count; i++) {
    struct lease *lease = &list->items[i];
    if (lease->job.outcome == OUTCOME_NONE) {
      list->items[kept++] = *lease;
    } else if (!lease->lost) {
      if (lease->job.outcome != OUTCOME_UNRUN)
        job_learn(&lease->job);
      queue_learn(lease->job.queue);
      batch_add(batch, &lease->job);
    } else {
      log_line(lease->cancelled ? LOG_INFO : LOG_WARN,
               lease->cancelled ? "job cancelled" : "outcome dropped: the lease was lost",
               LOG_T("queue", lease->job.queue->name), LOG_I("job", lease->job.id),
               LOG_I("attempt", lease->job.attempt));
      if (lease->job.outcome == OUTCOME_UNRUN) {
        job_free(&lease->job);
      } else {
        lease->job.outcome = OUTCOME_CANCELLED;
        batch_add(batch, &lease->job);
      }
    }
  }
  list->count = kept;
}

struct job *lease_list_find(const struct lease_list *list, int64_t id) {
  for (int i = 0; i < list->count; i++)
    if (list->items[i].job.id == id && list->items[i].job.outcome == OUTCOME_NONE)
      return &list->items[i].job;
  return NULL;
}
