#include "reload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "growing_wait.h"
#include "memory.h"

/* How long the script may take to load; how often the slot that is being prepared is looked at, and how long its
 * session may take to begin before the slot takes its place without one. */
enum { LOAD_MOST_MS = 60000, CHECK_MS = 5, OPEN_MOST_MS = 5000 };

/* A script that does not load is tried again after waits that grow. */
enum { RETRY_LEAST_MS = 2000, RETRY_MOST_MS = 60000 };

/* Old executors whose jobs take long are not ended, so that further reloads may have to wait for them. */
enum { VERSIONS_MOST = 3 };

enum reload_state {
  RELOAD_IDLE,
  RELOAD_WAITING, /* `number` is the slot to prepare: too many old executors run still */
  RELOAD_LOADING, /* the executor of `slot` loads the script */
  RELOAD_OPENING, /* the session of `slot` begins */
  RELOAD_BROKEN,  /* the script did not load: waits before it tries again */
};

struct reload {
  struct slot_list *slots;
  const int64_t *executors;
  struct sources **sources;
  const struct reload_events *events;
  void *owner;
  uv_timer_t timer; /* runs while the state is not idle; once, when the state is broken */
  enum reload_state state;
  struct slot *slot; /* the slot that is being prepared */
  int number;        /* its number, from 1; that of the first one: the executor reads the files */
  int64_t since_ms;  /* when the state began */
  int64_t retry_ms;  /* the wait after the last failure; 0: the last try has not failed */
  bool accepted;     /* the first executor has loaded the new version */
  bool again;        /* another reload was asked for meanwhile */
};

struct reload *reload_new(uv_loop_t *loop, struct slot_list *slots, const int64_t *executors, struct sources **sources,
                          const struct reload_events *events, void *owner) {
  struct reload *reload = memory_new(sizeof *reload);
  *reload =
      (struct reload){.slots = slots, .executors = executors, .sources = sources, .events = events, .owner = owner};
  uv_timer_init(loop, &reload->timer);
  reload->timer.data = reload;
  return reload;
}

static void free_reload(uv_handle_t *timer) {
  free(timer->data);
}

void reload_free(struct reload *reload) {
  if (reload)
    uv_close((uv_handle_t *)&reload->timer, free_reload);
}

static void enter(struct reload *reload, enum reload_state state) {
  reload->state = state;
  reload->since_ms = clock_ms();
}

void reload_stop(struct reload *reload) {
  uv_timer_stop(&reload->timer);
  enter(reload, RELOAD_IDLE);
  reload->slot = NULL;
  reload->again = false;
  reload->retry_ms = 0;
}

static void end(struct reload *reload) {
  bool again = reload->again;
  reload_stop(reload);
  if (again)
    reload_start(reload);
}

/* Prepares the slot of the next number. */
static void prepare(struct reload *reload) {
  if (reload->slots->count >= VERSIONS_MOST * *reload->executors) {
    enter(reload, RELOAD_WAITING);
    return;
  }
  reload->slot = slot_list_prepare(reload->slots, reload->number);
  if (!reload->accepted)
    slot_read_sources(reload->slot);
  enter(reload, RELOAD_LOADING);
  slot_start_executor(reload->slot);
}

static void on_check(uv_timer_t *timer);

/* Prepares the first slot, whose executor reads the files. */
static void begin(struct reload *reload) {
  reload->number = 1;
  reload->accepted = false;
  uv_timer_start(&reload->timer, on_check, CHECK_MS, CHECK_MS);
  prepare(reload);
}

/* The script is tried again after a wait; at once if another reload was asked for meanwhile. */
static void fail(struct reload *reload, const char *message, size_t length) {
  bool again = reload->again;
  int64_t retry_ms = growing_wait_after(reload->retry_ms, RETRY_LEAST_MS, RETRY_MOST_MS);
  slot_be_replaced(reload->slot);
  reload->events->failed(reload->owner, slot_sources(reload->slot), message, length);
  reload->events->replaced(reload->owner);
  reload_stop(reload);
  if (again) {
    begin(reload);
    return;
  }
  reload->retry_ms = retry_ms;
  enter(reload, RELOAD_BROKEN);
  uv_timer_start(&reload->timer, on_check, (uint64_t)retry_ms, 0);
}

/* The slot takes its place, with or without a session. */
static void take_place(struct reload *reload) {
  slot_list_swap(reload->slots, reload->slot);
  if (reload->number == 1)
    reload->events->registered(reload->owner);
  reload->events->replaced(reload->owner);
  reload->slot = NULL;
  if (++reload->number <= *reload->executors) {
    prepare(reload);
    return;
  }
  reload->events->reloaded(reload->owner);
  end(reload);
}

static void on_check(uv_timer_t *timer) {
  struct reload *reload = timer->data;
  int64_t for_ms = clock_ms() - reload->since_ms;
  if (reload->state == RELOAD_BROKEN)
    begin(reload);
  else if (reload->state == RELOAD_WAITING)
    prepare(reload);
  else if (reload->state == RELOAD_OPENING && (slot_has_session(reload->slot) || for_ms > OPEN_MOST_MS))
    take_place(reload);
  else if (reload->state == RELOAD_LOADING && for_ms > LOAD_MOST_MS && !slot_is_dead(reload->slot))
    slot_kill_executor(reload->slot, "was killed: it took longer than a minute to load the script");
}

void reload_start(struct reload *reload) {
  if (reload->state != RELOAD_IDLE && reload->state != RELOAD_BROKEN) {
    reload->again = true;
    return;
  }
  reload->retry_ms = 0;
  begin(reload);
}

/* ── reports ── */

static bool is_prepared(const struct reload *reload, const struct slot *slot) {
  return reload->slot != NULL && reload->slot == slot;
}

bool reload_took_ready(struct reload *reload, struct slot *slot, const struct message_ready *script) {
  if (!is_prepared(reload, slot) || reload->state != RELOAD_LOADING)
    return false;
  if (!reload->accepted) {
    reload->accepted = true;
    sources_drop(*reload->sources);
    *reload->sources = sources_keep(slot_sources(slot));
    reload->events->accepted(reload->owner, script);
  }
  slot_serve(slot);
  enter(reload, RELOAD_OPENING);
  return true;
}

bool reload_took_broken(struct reload *reload, struct slot *slot, const char *message, size_t length) {
  static const char refused[] = "the system does not start another executor";
  if (!is_prepared(reload, slot) || reload->state != RELOAD_LOADING)
    return false;
  if (reload->accepted) /* a later slot tries again, with the sources that have been loaded before */
    return false;
  fail(reload, message ? message : refused, message ? length : sizeof refused - 1);
  return true;
}

bool reload_took_death(struct reload *reload, struct slot *slot, const char *cause) {
  char message[200];
  if (!is_prepared(reload, slot))
    return false;
  if (reload->accepted) {
    enter(reload, RELOAD_LOADING); /* the slot starts another executor */
    return true;
  }
  int length = snprintf(message, sizeof message, "the executor %s while it loaded the script", cause);
  fail(reload, message, (size_t)length);
  return true;
}
