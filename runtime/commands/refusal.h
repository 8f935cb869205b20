#ifndef PGQ_REFUSAL_H
#define PGQ_REFUSAL_H

/*
 * refuse(command, usage, format, …): prints on stderr why a command does not begin, as printf() would write it, and its
 * usage: "pgq-lua COMMAND: …", then "usage: pgq-lua USAGE". Returns 2, the exit status for wrong usage.
 */
int refuse(const char *command, const char *usage, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
