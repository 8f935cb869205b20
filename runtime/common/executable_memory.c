#include "executable_memory.h"

#include <sys/mman.h>
#include <unistd.h>

bool executable_memory_works(void) {
  size_t size = (size_t)sysconf(_SC_PAGESIZE);
  void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED)
    return true; /* memory is short, which says nothing about the rest */
  *(volatile char *)page = 0;
  bool works = mprotect(page, size, PROT_READ | PROT_EXEC) == 0 && mprotect(page, size, PROT_READ | PROT_WRITE) == 0 &&
               mprotect(page, size, PROT_READ | PROT_EXEC) == 0;
  munmap(page, size);
  return works;
}
