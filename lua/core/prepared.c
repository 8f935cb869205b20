#include "prepared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer texts are rarely run again as they are. */
enum { SQL_MAX = 4096 };

/* So many statements later, what was not used again has no claim to its place. */
enum { LONG_UNUSED = 2000 };

/* FNV-1a. */
static uint64_t mix(uint64_t hash, const void *bytes, size_t length) {
  const unsigned char *byte = bytes;
  for (size_t i = 0; i < length; i++)
    hash = (hash ^ byte[i]) * 1099511628211u;
  return hash;
}

struct prepared_key prepared_key(const char *sql, int count, const Oid *types) {
  struct prepared_key key = {.sql = sql, .length = strlen(sql), .count = count, .types = types};
  uint64_t hash = mix(14695981039346656037u, sql, key.length);
  if (count > 0)
    hash = mix(hash, types, (size_t)count * sizeof *types);
  key.hash = hash != 0 ? hash : 1;
  return key;
}

bool prepared_may(const char *sql) {
  static const char *const moments[] = {"now", "today", "tomorrow", "yesterday"};
  if (strlen(sql) > SQL_MAX)
    return false;
  for (size_t i = 0; strchr(sql, '\'') != NULL && i < sizeof moments / sizeof *moments; i++)
    for (const char *at = sql; (at = strcasestr(at, moments[i])) != NULL; at++)
      if (at[strlen(moments[i])] != '(') /* the function is read each time */
        return false;
  return true;
}

static bool is_same(const struct prepared_key *a, const struct prepared_key *b) {
  return a->hash == b->hash && a->length == b->length && a->count == b->count &&
         memcmp(a->sql, b->sql, a->length) == 0 &&
         (a->count == 0 || memcmp(a->types, b->types, (size_t)a->count * sizeof *a->types) == 0);
}

struct prepared_statement *prepared_find(struct prepared *prepared, const struct prepared_key *key) {
  prepared->clock++;
  for (unsigned i = 0; i < prepared->count; i++) {
    struct prepared_statement *statement = &prepared->statements[i];
    if (is_same(&statement->key, key)) {
      statement->used = prepared->clock;
      return statement;
    }
  }
  return NULL;
}

bool prepared_has_seen(const struct prepared *prepared, uint64_t hash) {
  for (unsigned i = 0; i < PREPARED_MAX; i++)
    if (prepared->seen[i] == hash)
      return true;
  return false;
}

void prepared_see(struct prepared *prepared, uint64_t hash) {
  if (prepared_has_seen(prepared, hash))
    return;
  prepared->seen[prepared->next_seen] = hash;
  prepared->next_seen = (prepared->next_seen + 1) % PREPARED_MAX;
}

static void free_key(struct prepared_key *key) {
  free((void *)key->sql);
  free((void *)key->types);
}

struct prepared_statement *prepared_add(struct prepared *prepared, const struct prepared_key *key) {
  if (prepared->count == PREPARED_MAX)
    return NULL;
  struct prepared_key copy = *key;
  size_t size = (size_t)key->count * sizeof *key->types;
  Oid *types = malloc(size + 1);
  copy.sql = strdup(key->sql);
  copy.types = types;
  if (copy.sql == NULL || types == NULL) {
    free_key(&copy);
    return NULL;
  }
  if (size > 0)
    memcpy(types, key->types, size);
  struct prepared_statement *statement = &prepared->statements[prepared->count++];
  *statement = (struct prepared_statement){.key = copy, .used = prepared->clock, .number = ++prepared->last_number};
  return statement;
}

struct prepared_name prepared_name(const struct prepared_statement *statement) {
  struct prepared_name name;
  snprintf(name.text, sizeof name.text, "pgq-lua %u", statement->number);
  return name;
}

bool prepared_is_stuffed(const struct prepared *prepared) {
  for (unsigned i = 0; prepared->count == PREPARED_MAX && i < PREPARED_MAX; i++)
    if (prepared->clock - prepared->statements[i].used > LONG_UNUSED)
      return true;
  return false;
}

void prepared_drop_last(struct prepared *prepared) {
  if (prepared->count > 0)
    free_key(&prepared->statements[--prepared->count].key);
}

void prepared_forget(struct prepared *prepared) {
  while (prepared->count > 0)
    prepared_drop_last(prepared);
  memset(prepared->seen, 0, sizeof prepared->seen);
}
