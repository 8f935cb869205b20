#ifndef PGQ_SLOT_LIST_H
#define PGQ_SLOT_LIST_H

#include <stdbool.h>

#include "slot.h"

/*
 * The slots of a worker: one for each number, from 1, and after these the replaced slots whose jobs have not ended. A
 * list is empty if all fields except `start` are zero.
 */
struct slot_list {
  const struct slot_start *start;
  struct slot **items;
  int count;
};

/* slot_list_add(list): adds a slot with the next number; its executor is not started. Must not be called after a slot
 * was replaced. */
struct slot *slot_list_add(struct slot_list *list);

/* slot_list_replace(list, slot): a new slot takes the number of this one; see slot_be_replaced(). Returns the new
 * slot. */
struct slot *slot_list_replace(struct slot_list *list, struct slot *slot);

/* slot_list_is_in_place(list, slot): whether the slot has its number, and is not being prepared. */
bool slot_list_is_in_place(const struct slot_list *list, const struct slot *slot);

/* slot_list_prepare(list, number): adds a slot that can take the place of the one with that number, and claims nothing
 * yet. slot_list_swap(list, slot): such a slot takes the place; see slot_give_way(). */
struct slot *slot_list_prepare(struct slot_list *list, int number);
void slot_list_swap(struct slot_list *list, struct slot *slot);

/* slot_list_has_ended(list): whether replaced slots have ended. slot_list_free_ended(list): frees them, and returns
 * whether there were any. It must not be called from a callback of one of them. */
bool slot_list_has_ended(const struct slot_list *list);
bool slot_list_free_ended(struct slot_list *list);

/* Whether all slots are asleep or useless, at rest, cut off, or dead; see slot.h. */
bool slot_list_is_idle(const struct slot_list *list);
bool slot_list_is_at_rest(const struct slot_list *list);
bool slot_list_is_cut_off(const struct slot_list *list);
bool slot_list_is_dead(const struct slot_list *list);

/* slot_list_has_executor(list, pid): whether the process is an executor of one of the slots. */
bool slot_list_has_executor(const struct slot_list *list, int pid);

/* slot_list_wake(list, sweep): wakes the first slot that can claim; see slot_wake(). Returns whether there was one. */
bool slot_list_wake(const struct slot_list *list, bool sweep);

/* slot_list_recall(list, queue): see hold_recall(); for all holds. */
void slot_list_recall(struct slot_list *list, const struct queue *queue);

/* slot_list_leases(list, ids, tokens, lasts_ms): see hold_leases(); of all holds. At most slot_list_lease_count(list).
 */
int slot_list_lease_count(const struct slot_list *list);
int slot_list_leases(const struct slot_list *list, int64_t *ids, int64_t *tokens, int64_t *lasts_ms);

/* slot_list_has_lease(list, id): whether a hold has leased that job, and it still runs. */
bool slot_list_has_lease(const struct slot_list *list, int64_t id);

/* slot_list_count_in_flight(list, queues): sets in_flight of each of the queues: how many of its jobs are with the
 * executors. */
void slot_list_count_in_flight(const struct slot_list *list, const struct queue_list *queues);

/* slot_list_lease_lost(list, id), slot_list_cancel(list, id): see hold_lease_lost() and hold_cancel(). */
void slot_list_lease_lost(struct slot_list *list, int64_t id);
void slot_list_cancel(struct slot_list *list, int64_t id);

/* slot_list_free(list): frees all slots, which must be dead. */
void slot_list_free(struct slot_list *list);

#endif
