#ifndef PGQ_SOURCES_H
#define PGQ_SOURCES_H

#include <stdbool.h>

#include "message.h"

/* The characters of a version, and the NUL. */
enum { VERSION_SIZE = 13 };

/*
 * The source files of one version of the script, as the first executor of this version has read them. All other
 * executors of the version run these bytes. The version is the beginning of the SHA-256 of all names and bytes, in hex.
 */
struct sources {
  struct message_sources files;
  char version[VERSION_SIZE];
  int references;
};

/* sources_new(files): takes over the list, which becomes empty. The caller has a reference. */
struct sources *sources_new(struct message_sources *files);

/* sources_keep(sources): returns another reference. sources_drop(sources): gives one back; the last one frees the
 * struct. NULL is allowed in both. */
struct sources *sources_keep(struct sources *sources);
void sources_drop(struct sources *sources);

#endif
