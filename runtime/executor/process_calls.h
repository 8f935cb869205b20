#ifndef PGQ_PROCESS_CALLS_H
#define PGQ_PROCESS_CALLS_H

#include <stdbool.h>

/*
 * The functions of the C library that change the settings of a process (chdir, umask, sigaction, …) are defined in
 * process_calls.c once more. There they first note that they were called. The linker prefers the program's definitions,
 * so a handler calls these, whether it uses LuaJIT's FFI, luv or any C module. So the settings need to be compared only
 * after a call. A call of a system call by number is not noticed here: a
 * function in its place would break calls such as vfork(), which return twice to the same stack.
 */

/* process_calls_seen(): whether one of them was called since the last process_calls_forget(). */
bool process_calls_seen(void);
void process_calls_forget(void);

/* process_calls_streams_lost(): whether stdin, stdout or stderr was closed with fclose(), after which it cannot be used
 * again. */
bool process_calls_streams_lost(void);

#endif
