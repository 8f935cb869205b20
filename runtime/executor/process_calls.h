#ifndef PGQ_PROCESS_CALLS_H
#define PGQ_PROCESS_CALLS_H

#include <stdbool.h>

/*
 * The functions of the C library that change the settings of a process (chdir, umask, sigaction, …) are defined in
 * process_calls.c once more. There they first note that they were called. The linker prefers the program's definitions,
 * so a handler calls these, whether it uses LuaJIT's FFI, luv or any C module. So the settings need to be compared only
 * after a call. A system call that a C module makes in its own machine code is not noticed here.
 */

/* process_calls_seen(): whether one of them was called since the last process_calls_forget(). */
bool process_calls_seen(void);
void process_calls_forget(void);

/* process_calls_streams_lost(): whether stdin, stdout or stderr was closed with fclose(), after which it cannot be used
 * again. */
bool process_calls_streams_lost(void);

#endif
