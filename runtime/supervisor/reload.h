#ifndef PGQ_RELOAD_H
#define PGQ_RELOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "slot_list.h"

/*
 * Reloading the script. One new executor reads the files. If it cannot load them, the old version goes on, and the
 * files are tried again after waits that grow to a minute, or when another reload is asked for. Otherwise the worker
 * runs this version from now on: one slot after the other is prepared with an executor of the new version, and takes
 * the place of an old one as soon as it can claim, so that claiming never stops. Old executors end when their jobs have
 * ended.
 *
 *     idle ─ reload_start ─► loading ─► opening ─┬─► (the next slot) loading ─► …
 *                             ▲   │              └─► all slots have the new version: reloaded(), idle
 *                    (a wait) │   ▼
 *                            broken: failed()
 */
struct reload;

struct reload_events {
  /* The files could not be loaded, this time or again; the old version goes on. `sources` are those that were read,
   * NULL: none. The message is any bytes. */
  void (*failed)(void *owner, const struct sources *sources, const char *message, size_t length);
  /* The first executor of the new version is ready: `script` has its settings and queues. The slots start with the new
   * version from now on. Called before the first slot registers the queues. */
  void (*accepted)(void *owner, const struct message_ready *script);
  /* The first slot has registered the queues of the new version. */
  void (*registered)(void *owner);
  /* All slots run the new version. */
  void (*reloaded)(void *owner);
  /* Slots were replaced, and can be freed when they have ended. */
  void (*replaced)(void *owner);
};

/* reload_new(loop, slots, executors, sources, events, owner): `executors` is the number of slots, which may still be
 * set; `sources` is what new slots start with. All must outlive the object. */
struct reload *reload_new(uv_loop_t *loop, struct slot_list *slots, const int64_t *executors, struct sources **sources,
                          const struct reload_events *events, void *owner);

/* reload_start(reload): starts a reload, or another one after the one that is under way. */
void reload_start(struct reload *reload);

/* reload_stop(reload): the worker stops: nothing more happens. The slots that were prepared are in the list. */
void reload_stop(struct reload *reload);

/*
 * Reports of a slot: its executor is ready, could not load the script, or died. They return whether the slot is the one
 * that is being prepared; then the reload has taken the report. A slot that cannot load what the first one has loaded
 * tries again, as any other slot; that is the caller's to report.
 */
bool reload_took_ready(struct reload *reload, struct slot *slot, const struct message_ready *script);
bool reload_took_broken(struct reload *reload, struct slot *slot, const char *message, size_t length);
bool reload_took_death(struct reload *reload, struct slot *slot, const char *cause);

/* reload_free(reload): NULL is allowed. */
void reload_free(struct reload *reload);

#endif
