#ifndef PGQ_TOP_HELP_H
#define PGQ_TOP_HELP_H

/* The lines of the page of keys, the last one followed by NULL. */
extern const char *const top_help[];

#endif
