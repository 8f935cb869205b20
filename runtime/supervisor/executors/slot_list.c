#include "slot_list.h"

#include <stdlib.h>

#include "memory.h"

static struct slot *add(struct slot_list *list, int number) {
  list->items = memory_resize(list->items, (size_t)(list->count + 1) * sizeof(struct slot *));
  struct slot *slot = slot_new(list->start, number);
  slot_be_careful(slot, list->careful_until_ms);
  list->items[list->count++] = slot;
  return slot;
}

struct slot *slot_list_add(struct slot_list *list) {
  return add(list, list->count + 1);
}

struct slot *slot_list_replace(struct slot_list *list, struct slot *slot) {
  int number = slot_number(slot);
  struct slot *heir = add(list, number);
  list->items[list->count - 1] = slot;
  list->items[number - 1] = heir;
  slot_go(slot);
  return heir;
}

static bool has_gone(const struct slot *slot) {
  return slot_is_outgoing(slot) && slot_is_dead(slot) && slot_is_at_rest(slot);
}

bool slot_list_has_gone(const struct slot_list *list) {
  for (int i = 0; i < list->count; i++)
    if (has_gone(list->items[i]))
      return true;
  return false;
}

bool slot_list_bury(struct slot_list *list) {
  int kept = 0, count = list->count;
  for (int i = 0; i < count; i++)
    if (has_gone(list->items[i]))
      slot_free(list->items[i]);
    else
      list->items[kept++] = list->items[i];
  list->count = kept;
  return kept < count;
}

void slot_list_be_careful(struct slot_list *list, int64_t until_ms) {
  list->careful_until_ms = until_ms;
  for (int i = 0; i < list->count; i++)
    slot_be_careful(list->items[i], until_ms);
}

static bool all(const struct slot_list *list, bool is_so(const struct slot *slot)) {
  for (int i = 0; i < list->count; i++)
    if (!is_so(list->items[i]))
      return false;
  return true;
}

bool slot_list_is_asleep(const struct slot_list *list) {
  return all(list, slot_is_asleep);
}

bool slot_list_is_at_rest(const struct slot_list *list) {
  return all(list, slot_is_at_rest);
}

bool slot_list_is_dead(const struct slot_list *list) {
  return all(list, slot_is_dead);
}

int slot_list_hold_count(const struct slot_list *list) {
  return list->count * HOLDS_PER_EXECUTOR;
}

struct hold *slot_list_hold(const struct slot_list *list, int i) {
  return slot_hold(list->items[i / HOLDS_PER_EXECUTOR], i % HOLDS_PER_EXECUTOR);
}

void slot_list_free(struct slot_list *list) {
  for (int i = 0; i < list->count; i++)
    slot_free(list->items[i]);
  free(list->items);
  list->items = NULL;
  list->count = 0;
}
