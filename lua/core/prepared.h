#ifndef PGQ_PREPARED_H
#define PGQ_PREPARED_H

/* Which statements are prepared on a connection. A text is prepared when it is seen for the second time with the same
 * types of parameters. Names are never used again in a session. */

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PREPARED_MAX = 50 };

/* A text, and the types of its parameters. Borrowed, but in a statement. */
struct prepared_key {
  uint64_t hash; /* never 0 */
  const char *sql;
  size_t length;
  int count;
  const Oid *types;
};

struct prepared_statement {
  struct prepared_key key; /* its texts are copies */
  uint64_t used;           /* when, by the clock below */
  unsigned number;
};

/* Zeroed: nothing is prepared. */
struct prepared {
  struct prepared_statement statements[PREPARED_MAX];
  uint64_t seen[PREPARED_MAX]; /* a ring of what was run unprepared */
  unsigned count, next_seen, last_number;
  uint64_t clock;
};

struct prepared_name {
  char text[32];
};

struct prepared_key prepared_key(const char *sql, int count, const Oid *types);

/* Whether the text means the same each time that it is run: 'now' and its like are read when it is prepared. */
bool prepared_may(const char *sql);

/* The statement, or NULL when there is none. */
struct prepared_statement *prepared_find(struct prepared *prepared, const struct prepared_key *key);

/* Remembers what was run; whether it is remembered. */
void prepared_see(struct prepared *prepared, uint64_t hash);
bool prepared_has_seen(const struct prepared *prepared, uint64_t hash);

/* Adds a statement that is to be prepared under its name; NULL when there is no room or no memory. */
struct prepared_statement *prepared_add(struct prepared *prepared, const struct prepared_key *key);

struct prepared_name prepared_name(const struct prepared_statement *statement);

/* Whether there is no room, and some of those that take it have not been used for long. */
bool prepared_is_stuffed(const struct prepared *prepared);

/* Forgets the statement that was added last, or all of them and what was seen. The server may still have them. */
void prepared_drop_last(struct prepared *prepared);
void prepared_forget(struct prepared *prepared);

#endif
