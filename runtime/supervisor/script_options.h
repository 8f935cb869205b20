#ifndef PGQ_SCRIPT_OPTIONS_H
#define PGQ_SCRIPT_OPTIONS_H

#include "message.h"
#include "options.h"

/*
 * The options that the script sets with pgq.configure(). They are known when an executor has loaded the script. A
 * reloaded script may set others: most apply at once, some only when the worker is started.
 */
struct script_options {
  struct message_setting *items; /* those that apply, or are ignored until the worker is started again */
  uint32_t count;
};

/* script_options_apply(applied, options, script): applies the options of the first version of the script. Logs an error
 * and returns -1 if one is wrong, which executors have checked before. */
int script_options_apply(struct script_options *applied, struct options *options, const struct message_ready *script);

/* script_options_reapply(applied, options, script): applies those of another version. Logs a warning for each that has
 * changed and cannot be applied now. */
void script_options_reapply(struct script_options *applied, struct options *options,
                            const struct message_ready *script);

void script_options_free(struct script_options *applied);

#endif
