#include "error_groups.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "listing.h"
#include "memory.h"

enum { KEY_SIZE = 2048 };

/* The columns of jobs_errors.sql. */
enum column { COLUMN_ID, COLUMN_TIME, COLUMN_ERROR, COLUMN_IS_CUT };

const struct listing_column error_groups_columns[] = {
    {"count", "COUNT", LISTING_PART},        {"first_at", "FIRST", LISTING_TIME}, {"last_at", "LAST", LISTING_TIME},
    {"last_job", "LAST ID", LISTING_NUMBER}, {"error", "ERROR", LISTING_LONG},    {"last_error", NULL, LISTING_TEXT},
};

_Static_assert(sizeof error_groups_columns / sizeof error_groups_columns[0] == ERROR_GROUPS_COLUMNS,
               "as many as error_groups.h says");

struct group {
  char *key;
  int64_t count;
  int latest, earliest; /* rows */
};

static bool is_word(char c) {
  return isalnum((unsigned char)c) || c == '_' || (c & 0x80);
}

/* Whether the word is an identifier in hexadecimal: 0x and digits, or at least eight digits with one below ten. */
static bool is_hex(const char *word, size_t length) {
  bool has_number = false;
  if (length > 2 && word[0] == '0' && (word[1] == 'x' || word[1] == 'X'))
    return true;
  for (size_t i = 0; i < length; i++) {
    if (!isxdigit((unsigned char)word[i]))
      return false;
    has_number |= isdigit((unsigned char)word[i]) != 0;
  }
  return has_number && length >= 8;
}

/* The length of the UUID at the begin of the text, or 0. */
static size_t uuid_length(const char *text) {
  static const int parts[] = {8, 4, 4, 4, 12};
  size_t length = 0;
  for (size_t part = 0; part < 5; part++) {
    if (part > 0 && text[length++] != '-')
      return 0;
    for (int i = 0; i < parts[part]; i++)
      if (!isxdigit((unsigned char)text[length++]))
        return 0;
  }
  return is_word(text[length]) ? 0 : length;
}

void error_groups_key(char *out, size_t size, const char *error) {
  char *end = out + size - 1;
  while (*error && out < end) {
    size_t length = 0, uuid = uuid_length(error);
    while (is_word(error[length]))
      length++;
    if (uuid > 0 || is_hex(error, length)) {
      *out++ = '#';
      error += uuid > 0 ? uuid : length;
      continue;
    }
    const char *word_end = error + (length > 0 ? length : 1);
    while (error < word_end && out < end) {
      bool is_number = isdigit((unsigned char)*error) != 0;
      *out++ = is_number ? '#' : *error;
      for (error++; is_number && error < word_end && isdigit((unsigned char)*error);)
        error++;
    }
  }
  *out = '\0';
}

static uint64_t hash(const char *text) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (; *text; text++)
    hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
  return hash;
}

/* Returns the group of the key in the table, which is open and never full; a new one has no members. */
static struct group *find_group(struct group *table, size_t size, const char *key) {
  size_t at = hash(key) % size;
  while (table[at].key && strcmp(table[at].key, key) != 0)
    at = (at + 1) % size;
  if (!table[at].key)
    table[at].key = memory_text(key);
  return &table[at];
}

static int compare(const void *a, const void *b) {
  const struct group *left = a, *right = b;
  if (left->count != right->count)
    return left->count < right->count ? 1 : -1;
  return left->latest - right->latest;
}

/* While there are failed jobs that were not read, any group may have more members. */
static void add_group(struct listing *listing, const PGresult *result, const struct group *group) {
  char count[32];
  snprintf(count, sizeof count, "%" PRId64 "%s", group->count, error_groups_are_cut(result) ? "+" : "");
  listing_add(listing, (const char *[ERROR_GROUPS_COLUMNS]){count, PQgetvalue(result, group->earliest, COLUMN_TIME),
                                                            PQgetvalue(result, group->latest, COLUMN_TIME),
                                                            PQgetvalue(result, group->latest, COLUMN_ID), group->key,
                                                            PQgetvalue(result, group->latest, COLUMN_ERROR)});
}

int error_groups_add(struct listing *listing, const PGresult *result, int64_t most) {
  int rows = error_groups_read(result), count = 0;
  size_t size = 2 * (size_t)rows + 1;
  struct group *table = memory_new(size * sizeof *table);
  char *key = memory_new(KEY_SIZE);
  for (int i = 0; i < rows; i++) {
    error_groups_key(key, KEY_SIZE, PQgetvalue(result, i, COLUMN_ERROR));
    struct group *group = find_group(table, size, key);
    group->latest = group->count++ == 0 ? i : group->latest;
    group->earliest = i;
  }
  for (size_t i = 0; i < size; i++)
    if (table[i].key)
      table[count++] = table[i];
  qsort(table, (size_t)count, sizeof *table, compare);
  for (int i = 0; i < count; i++) {
    if (i < most)
      add_group(listing, result, &table[i]);
    free(table[i].key);
  }
  free(key);
  free(table);
  return count;
}

int error_groups_read(const PGresult *result) {
  return PQntuples(result) - 1; /* the last row is about the others */
}

bool error_groups_are_cut(const PGresult *result) {
  return *PQgetvalue(result, error_groups_read(result), COLUMN_IS_CUT) == 't';
}

int error_groups_list(const struct options *options, const struct inquiry *inquiry, const PGresult *result) {
  struct listing listing;
  listing_init(&listing, options, error_groups_columns, ERROR_GROUPS_COLUMNS, inquiry->now);
  error_groups_add(&listing, result, options->limit ? options->limit : INQUIRY_LIMIT);
  int status = listing_finish(&listing, "jobs", "No job has failed.");
  if (error_groups_are_cut(result))
    fprintf(
        stderr,
        "pgq-lua jobs: only the last %d failed jobs were read, in equal shares of the queues; others are selected by "
        "a queue, --since and --before\n",
        error_groups_read(result));
  return status;
}
