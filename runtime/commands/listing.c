#include "listing.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "listing_table.h"
#include "moment.h"
#include "printable.h"

void listing_init(struct listing *listing, const struct options *options, const struct listing_column *columns,
                  int count, const char *now) {
  *listing = (struct listing){.columns = columns,
                              .count = count,
                              .now = now,
                              .is_json = options->json,
                              .is_terminal = !options->json && isatty(STDOUT_FILENO)};
}

void listing_keep(struct listing *listing, const struct listing_column *columns, int count, const char *now) {
  *listing = (struct listing){.columns = columns, .count = count, .now = now, .is_terminal = true, .keeps = true};
}

/* Where the text and the value of a kept cell are; the value is NO_VALUE for NULL. */
struct place {
  size_t cell, value;
};

#define NO_VALUE SIZE_MAX

static const struct place *find_place(const struct listing *listing, int row, int column) {
  return (const struct place *)listing->places.bytes + (size_t)row * (size_t)listing->count + column;
}

const char *listing_cell(const struct listing *listing, int row, int column) {
  return (const char *)listing->cells.bytes + find_place(listing, row, column)->cell;
}

const char *listing_value(const struct listing *listing, int row, int column) {
  size_t value = find_place(listing, row, column)->value;
  return value == NO_VALUE ? NULL : (const char *)listing->values.bytes + value;
}

void listing_free(struct listing *listing) {
  buffer_free(&listing->cells);
  buffer_free(&listing->values);
  buffer_free(&listing->places);
  listing->rows = 0;
}

bool listing_is_table(const struct listing *listing) {
  return listing->is_terminal;
}

bool listing_is_json(const struct listing *listing) {
  return listing->is_json;
}

static void add_text(struct buffer *out, const char *text) {
  buffer_add(out, text, strlen(text));
}

/* Adds a value for a reader; nothing for NULL. */
static void add_value(struct listing *listing, enum listing_kind kind, const char *value, struct buffer *out) {
  char text[MOMENT_SIZE];
  if (!value)
    return;
  switch (kind) {
  case LISTING_TEXT:
  case LISTING_LONG:
  case LISTING_NOTE:
  case LISTING_JSON:
    printable_add(out, value, PRINTABLE_CELL);
    return;
  case LISTING_NUMBER:
  case LISTING_PART:
    add_text(out, value);
    return;
  case LISTING_COUNT:
    add_text(out, strtoll(value, NULL, 10) > LISTING_MOST ? "10000+" : value);
    return;
  case LISTING_FLAG:
    add_text(out, *value == 't' ? "yes" : "no");
    return;
  case LISTING_DURATION:
    moment_span(text, strtoll(value, NULL, 10));
    break;
  case LISTING_TIME:
  case LISTING_AGE:
    if (!listing->is_terminal)
      moment_iso(text, value);
    else if (kind == LISTING_TIME)
      moment_relative(text, value, listing->now);
    else
      moment_span(text, moment_between_ms(value, listing->now));
    break;
  }
  add_text(out, text);
}

static void add_count(cJSON *object, const char *name, const char *value, long long most) {
  char capped[64];
  long long count = strtoll(value, NULL, 10);
  cJSON_AddNumberToObject(object, name, (double)(count > most ? most : count));
  snprintf(capped, sizeof capped, "%s_capped", name);
  if (count > most || strchr(value, '+'))
    cJSON_AddTrueToObject(object, capped);
}

static void add_member(cJSON *object, const struct listing_column *column, const char *value) {
  char iso[MOMENT_SIZE];
  if (!value) {
    cJSON_AddNullToObject(object, column->name);
    return;
  }
  switch (column->kind) {
  case LISTING_COUNT:
    add_count(object, column->name, value, LISTING_MOST);
    return;
  case LISTING_PART:
    add_count(object, column->name, value, LLONG_MAX);
    return;
  case LISTING_NUMBER:
  case LISTING_DURATION:
  case LISTING_JSON:
    cJSON_AddRawToObject(object, column->name, value);
    return;
  case LISTING_FLAG:
    cJSON_AddBoolToObject(object, column->name, *value == 't');
    return;
  case LISTING_TIME:
  case LISTING_AGE:
    moment_iso(iso, value);
    cJSON_AddStringToObject(object, column->name, iso);
    return;
  case LISTING_TEXT:
  case LISTING_LONG:
  case LISTING_NOTE:
    cJSON_AddStringToObject(object, column->name, value);
    return;
  }
}

static void print_object(struct listing *listing, const char *const *values) {
  struct buffer out = {0};
  cJSON *object = cJSON_CreateObject();
  for (int i = 0; i < listing->count; i++)
    if (listing->columns[i].name)
      add_member(object, &listing->columns[i], values[i]);
  char *text = cJSON_PrintUnformatted(object);
  printable_add(&out, text ? text : "{}", PRINTABLE_JSON);
  buffer_add(&out, "\n", 1);
  fwrite(out.bytes, 1, out.length, stdout);
  buffer_free(&out);
  cJSON_free(text);
  cJSON_Delete(object);
}

static void print_line(struct listing *listing, const char *const *values) {
  struct buffer out = {0};
  for (int i = 0; i < listing->count; i++) {
    if (!listing->columns[i].title)
      continue;
    if (out.length > 0)
      buffer_add(&out, "\t", 1);
    size_t before = out.length;
    add_value(listing, listing->columns[i].kind, values[i], &out);
    if (out.length == before)
      buffer_add(&out, "-", 1);
  }
  buffer_add(&out, "\n", 1);
  fwrite(out.bytes, 1, out.length, stdout);
  buffer_free(&out);
}

/* Keeps the value of the cell whose text is added next. */
static void keep_value(struct listing *listing, const char *value) {
  struct place place = {listing->cells.length, value ? listing->values.length : NO_VALUE};
  if (value)
    buffer_add(&listing->values, value, strlen(value) + 1);
  buffer_add(&listing->places, &place, sizeof place);
}

void listing_add(struct listing *listing, const char *const *values) {
  listing->rows++;
  if (listing->is_json) {
    print_object(listing, values);
  } else if (!listing->is_terminal) {
    print_line(listing, values);
  } else {
    for (int i = 0; i < listing->count; i++) {
      if (listing->keeps)
        keep_value(listing, values[i]);
      add_value(listing, listing->columns[i].kind, values[i], &listing->cells);
      buffer_add(&listing->cells, "", 1);
    }
  }
}

int listing_finish(struct listing *listing, const char *command, const char *empty) {
  if (listing->is_terminal && listing->rows > 0)
    listing_table_print(listing->columns, listing->count, (const char *)listing->cells.bytes, listing->rows);
  else if (listing->is_terminal)
    puts(empty);
  listing_free(listing);
  if (fflush(stdout) == 0 && !ferror(stdout))
    return 0;
  fprintf(stderr, "pgq-lua %s: the list could not be printed: %s\n", command, strerror(errno));
  return -1;
}
