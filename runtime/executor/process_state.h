#ifndef PGQ_PROCESS_STATE_H
#define PGQ_PROCESS_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

/*
 * The settings of this process that a handler can change, and that all handlers of an executor share: the working
 * directory, the file mode mask, the locale, signals, timers, limits, the environment, the standard streams and others
 * (the table in process_state.c). A state is a copy of all of them.
 */
struct process_state;

/* process_state_prepare(luv_handler): to be called once. `luv_handler` is libuv's own signal handler: signals that it
 * handles belong to luv, and count as unchanged. */
void process_state_prepare(void (*luv_handler)(int));

/* process_state_take(): copies the settings. process_state_free(state): frees the copy; NULL is allowed. */
struct process_state *process_state_take(void);
void process_state_free(struct process_state *state);

/* process_state_differs(state): whether the settings are others than those of `state`. */
bool process_state_differs(const struct process_state *state);

/*
 * process_state_restore(state, changed, lost): brings the settings back to those of `state`. Appends to `changed` the
 * names of settings that had changed ("working directory, locale"), and to `lost` those of settings that cannot be
 * brought back.
 */
void process_state_restore(const struct process_state *state, struct buffer *changed, struct buffer *lost);

/* process_state_add_name(names, name): appends a name to such a list. */
void process_state_add_name(struct buffer *names, const char *name);

#endif
