#ifndef PGQ_SCRIPT_SOURCES_H
#define PGQ_SCRIPT_SOURCES_H

#include <lua.h>
#include <stdbool.h>

#include "message.h"

/*
 * The files of Lua source that the script consists of. The first executor of a version reads them, and keeps what it
 * has read: the script, modules, and files that are loaded by loadfile and dofile while the script loads. The other
 * executors run the same bytes, whatever stands in the files now. A module that a handler requires later, and that no
 * executor required while it loaded, is read from its file.
 */
struct script_sources {
  const struct message_sources *given; /* run these instead of reading the files; an empty list: none */
  struct message_sources read;         /* what was read; `memory` is not used, each item has its own bytes */
  size_t bytes;                        /* of `read` */
  bool loading;                        /* the script is being loaded */
};

/* script_sources_watch(L, sources): replaces the loader of Lua modules, loadfile and dofile. To be called when the
 * libraries are open. `sources` must outlive the state. */
void script_sources_watch(lua_State *L, struct script_sources *sources);

/* script_sources_load(L, sources, path): pushes the file as a function, or an error message. Returns 0, or an error of
 * lua_load(). */
int script_sources_load(lua_State *L, struct script_sources *sources, const char *path);

void script_sources_free(struct script_sources *sources);

#endif
