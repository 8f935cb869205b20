#include "slot_list.h"

#include <stdlib.h>

#include "memory.h"

static struct slot *add(struct slot_list *list, int number) {
  list->items = memory_resize(list->items, (size_t)(list->count + 1) * sizeof(struct slot *));
  struct slot *slot = slot_new(list->start, number);
  list->items[list->count++] = slot;
  return slot;
}

struct slot *slot_list_add(struct slot_list *list) {
  return add(list, list->count + 1);
}

struct slot *slot_list_replace(struct slot_list *list, struct slot *slot) {
  int number = slot_number(slot);
  struct slot *replacement = add(list, number);
  list->items[list->count - 1] = slot;
  list->items[number - 1] = replacement;
  slot_be_replaced(slot);
  return replacement;
}

bool slot_list_is_in_place(const struct slot_list *list, const struct slot *slot) {
  return list->items[slot_number(slot) - 1] == slot;
}

struct slot *slot_list_prepare(struct slot_list *list, int number) {
  return add(list, number);
}

void slot_list_swap(struct slot_list *list, struct slot *slot) {
  int place = slot_number(slot) - 1;
  struct slot *old = list->items[place];
  for (int i = 0; i < list->count; i++)
    if (list->items[i] == slot)
      list->items[i] = old;
  list->items[place] = slot;
  slot_give_way(old);
}

static bool has_ended(const struct slot *slot) {
  return slot_is_replaced(slot) && slot_is_dead(slot) && slot_is_at_rest(slot);
}

bool slot_list_has_ended(const struct slot_list *list) {
  for (int i = 0; i < list->count; i++)
    if (has_ended(list->items[i]))
      return true;
  return false;
}

bool slot_list_free_ended(struct slot_list *list) {
  int kept = 0, count = list->count;
  for (int i = 0; i < count; i++)
    if (has_ended(list->items[i]))
      slot_free(list->items[i]);
    else
      list->items[kept++] = list->items[i];
  list->count = kept;
  return kept < count;
}

static bool all(const struct slot_list *list, bool is_so(const struct slot *slot)) {
  for (int i = 0; i < list->count; i++)
    if (!is_so(list->items[i]))
      return false;
  return true;
}

static bool is_idle(const struct slot *slot) {
  return slot_is_asleep(slot) || slot_is_useless(slot);
}

bool slot_list_is_idle(const struct slot_list *list) {
  return all(list, is_idle);
}

bool slot_list_is_at_rest(const struct slot_list *list) {
  return all(list, slot_is_at_rest);
}

bool slot_list_is_dead(const struct slot_list *list) {
  return all(list, slot_is_dead);
}

bool slot_list_is_cut_off(const struct slot_list *list) {
  return all(list, slot_is_cut_off);
}

bool slot_list_has_executor(const struct slot_list *list, int pid) {
  for (int i = 0; i < list->count; i++)
    if (slot_pid(list->items[i]) == pid)
      return true;
  return false;
}

bool slot_list_wake(const struct slot_list *list, bool sweep) {
  for (int i = 0; i < list->count; i++)
    if (slot_wake(list->items[i], sweep))
      return true;
  return false;
}

/* ── all holds; a slot whose script was never loaded has none ── */

static int hold_count(const struct slot_list *list) {
  return list->count * HOLDS_PER_EXECUTOR;
}

static struct hold *hold_at(const struct slot_list *list, int i) {
  return slot_hold(list->items[i / HOLDS_PER_EXECUTOR], i % HOLDS_PER_EXECUTOR);
}

void slot_list_recall(struct slot_list *list, const struct queue *queue) {
  for (int i = 0; i < hold_count(list); i++)
    if (hold_at(list, i))
      hold_recall(hold_at(list, i), queue);
}

int slot_list_lease_count(const struct slot_list *list) {
  int count = 0;
  for (int i = 0; i < hold_count(list); i++)
    count += hold_at(list, i) ? hold_lease_count(hold_at(list, i)) : 0;
  return count;
}

int slot_list_leases(const struct slot_list *list, int64_t *ids, int64_t *tokens, int64_t *lasts_ms) {
  int found = 0;
  for (int i = 0; i < hold_count(list); i++)
    if (hold_at(list, i))
      found += hold_leases(hold_at(list, i), ids + found, tokens + found, lasts_ms + found);
  return found;
}

void slot_list_count_in_flight(const struct slot_list *list, const struct queue_list *queues) {
  for (struct queue *queue = queues->first; queue; queue = queue->next)
    queue->in_flight = 0;
  for (int i = 0; i < hold_count(list); i++)
    if (hold_at(list, i))
      hold_add_in_flight(hold_at(list, i));
}

void slot_list_lease_lost(struct slot_list *list, int64_t id) {
  for (int i = 0; i < hold_count(list); i++)
    if (hold_at(list, i))
      hold_lease_lost(hold_at(list, i), id);
}

void slot_list_cancel(struct slot_list *list, int64_t id) {
  for (int i = 0; i < hold_count(list); i++)
    if (hold_at(list, i))
      hold_cancel(hold_at(list, i), id);
}

bool slot_list_has_lease(const struct slot_list *list, int64_t id) {
  for (int i = 0; i < hold_count(list); i++)
    if (hold_at(list, i) && hold_has_lease(hold_at(list, i), id))
      return true;
  return false;
}

void slot_list_free(struct slot_list *list) {
  for (int i = 0; i < list->count; i++)
    slot_free(list->items[i]);
  free(list->items);
  list->items = NULL;
  list->count = 0;
}
