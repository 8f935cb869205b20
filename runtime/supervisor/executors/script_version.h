#ifndef PGQ_SCRIPT_VERSION_H
#define PGQ_SCRIPT_VERSION_H

/* The length of a version with its final NUL. */
enum { SCRIPT_VERSION_SIZE = 13 };

/* script_version(path, version): writes the version of a script: the first twelve digits of the SHA-256 of its file. An
 * empty text if the file cannot be read. Modules that the script loads do not count. */
void script_version(const char *path, char version[SCRIPT_VERSION_SIZE]);

#endif
