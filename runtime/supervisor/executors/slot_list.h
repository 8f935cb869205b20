#ifndef PGQ_SLOT_LIST_H
#define PGQ_SLOT_LIST_H

#include <stdbool.h>

#include "slot.h"

/*
 * The slots of a worker: one for each number, from 1, and behind these the slots whose place another has taken, as long
 * as they have jobs. All zero, but for `start`, is an empty list.
 */
struct slot_list {
  const struct slot_start *start;
  struct slot **items;
  int count;
  int64_t careful_until_ms; /* see slot_be_careful(); slots that are added keep to it */
};

/* slot_list_add(list): adds one with the next number, which is not started. Only before others have been replaced. */
struct slot *slot_list_add(struct slot_list *list);

/* slot_list_replace(list, slot): a new one takes its place, and it goes; see slot_go(). Returns the new one. */
struct slot *slot_list_replace(struct slot_list *list, struct slot *slot);

/* slot_list_has_gone(list): whether there are slots to be freed. slot_list_bury(list): frees them, and says whether
 * there were any; not while one of them calls. */
bool slot_list_has_gone(const struct slot_list *list);
bool slot_list_bury(struct slot_list *list);

/* slot_list_be_careful(list, until_ms): all of them. */
void slot_list_be_careful(struct slot_list *list, int64_t until_ms);

/* Whether all are asleep, at rest, or dead; see slot.h. */
bool slot_list_is_asleep(const struct slot_list *list);
bool slot_list_is_at_rest(const struct slot_list *list);
bool slot_list_is_dead(const struct slot_list *list);

/* slot_list_hold_count(list): of holds, those that are not there yet too. slot_list_hold(list, i): one; NULL for those.
 */
int slot_list_hold_count(const struct slot_list *list);
struct hold *slot_list_hold(const struct slot_list *list, int i);

/* slot_list_free(list): frees all slots, which must be dead. */
void slot_list_free(struct slot_list *list);

#endif
