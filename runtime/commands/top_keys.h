#ifndef PGQ_TOP_KEYS_H
#define PGQ_TOP_KEYS_H

#include "top_state.h"

/* top_keys_read(top): follows all keys that were pressed. Returns whether there were any. */
bool top_keys_read(struct top *top);

#endif
