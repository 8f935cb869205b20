#ifndef PGQ_EXECUTABLE_MEMORY_H
#define PGQ_EXECUTABLE_MEMORY_H

#include <stdbool.h>

/*
 * executable_memory_works(): whether this process may write machine code and then run it, as LuaJIT's compiler does.
 * systemd's MemoryDenyWriteExecute and SELinux forbid it; the compiler would then end the process. Tries it.
 */
bool executable_memory_works(void);

#endif
