#ifndef PGQ_LUA_EMBEDDED_H
#define PGQ_LUA_EMBEDDED_H

#include <stddef.h>

/*
 * The Lua and SQL files of the source tree, built into the program, which therefore needs no installed files. CMake
 * generates the table. Only the executable pgq-lua is linked with it.
 */
struct embedded_file {
  const char *name; /* path in the source tree, such as "lua/pgq/running/handlers.lua" or "sql/create_table.sql" */
  const unsigned char *bytes; /* the content; a NUL that is not part of it follows */
  size_t length;              /* bytes of content */
};

/* embedded_find(name): returns the file of that name, which is valid as long as the program runs; NULL if there is
 * none. */
const struct embedded_file *embedded_find(const char *name);

#endif
