#include "job_ids.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "refusal.h"

/* How many ids a row of pgq_audit keeps. */
enum { IDS_MOST = 1000 };

/* Returns the problem with an id as the end of a sentence, or NULL. */
static const char *find_misuse(const char *word) {
  const char *digits = word + (*word == '-');
  if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
    return "is not a whole number; write the ids of jobs, as enqueueing printed them";
  errno = 0;
  strtoll(word, NULL, 10);
  return errno == ERANGE ? "is too large for the id of a job" : NULL;
}

int job_ids_check(const char *command, int argc, char **argv, const char *usage) {
  for (int i = 0; i < argc; i++) {
    const char *misuse = find_misuse(argv[i]);
    if (!misuse)
      continue;
    refuse(command, usage, "'%.100s' %s", argv[i], misuse);
    return -1;
  }
  return 0;
}

char *job_ids_array(int argc, char **argv) {
  struct buffer text = {0};
  buffer_add(&text, "{", 1);
  for (int i = 0; i < argc && i < IDS_MOST; i++) {
    buffer_add(&text, ",", i > 0);
    buffer_add(&text, argv[i], strlen(argv[i]));
  }
  buffer_add(&text, "}", 2); /* with the NUL */
  return (char *)text.bytes;
}
