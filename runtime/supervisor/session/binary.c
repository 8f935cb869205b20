#include "binary.h"

#include <endian.h>
#include <math.h>
#include <string.h>

/* Binary timestamps count microseconds from 2000-01-01. */
#define POSTGRES_EPOCH_S 946684800.0

void parameters_free(struct parameters *parameters) {
  buffer_free(&parameters->bytes);
  *parameters = (struct parameters){0};
}

static void add_u32(struct buffer *out, uint32_t value) {
  value = htobe32(value);
  buffer_add(out, &value, sizeof value);
}

static void add_u64(struct buffer *out, uint64_t value) {
  value = htobe64(value);
  buffer_add(out, &value, sizeof value);
}

static void begin_value(struct parameters *parameters) {
  parameters->offsets[parameters->count] = parameters->bytes.length;
}

static void end_value(struct parameters *parameters) {
  int i = parameters->count++;
  parameters->lengths[i] = (int)(parameters->bytes.length - parameters->offsets[i]);
}

void parameters_add_i32(struct parameters *parameters, int32_t value) {
  begin_value(parameters);
  add_u32(&parameters->bytes, (uint32_t)value);
  end_value(parameters);
}

void parameters_add_bool(struct parameters *parameters, bool value) {
  unsigned char byte = value;
  begin_value(parameters);
  buffer_add(&parameters->bytes, &byte, 1);
  end_value(parameters);
}

void parameters_add_i64(struct parameters *parameters, int64_t value) {
  begin_value(parameters);
  add_u64(&parameters->bytes, (uint64_t)value);
  end_value(parameters);
}

void parameters_add_text(struct parameters *parameters, const char *value) {
  begin_value(parameters);
  if (value)
    buffer_add(&parameters->bytes, value, strlen(value));
  buffer_space(&parameters->bytes, 1); /* even an empty text has an address */
  end_value(parameters);
  if (!value)
    parameters->lengths[parameters->count - 1] = -1;
}

/* The head of a binary array: dimensions, whether there are nulls, type, and the one dimension's size and start. */
static void begin_array(struct parameters *parameters, Oid type, int count) {
  begin_value(parameters);
  add_u32(&parameters->bytes, count > 0);
  add_u32(&parameters->bytes, 1);
  add_u32(&parameters->bytes, type);
  if (count > 0) {
    add_u32(&parameters->bytes, (uint32_t)count);
    add_u32(&parameters->bytes, 1);
  }
}

/* Both int8 and timestamptz travel as eight bytes. */
static void add_eight_bytes_array(struct parameters *parameters, Oid type, const int64_t *values, const bool *nulls,
                                  int count) {
  begin_array(parameters, type, count);
  for (int i = 0; i < count; i++) {
    if (nulls && nulls[i]) {
      add_u32(&parameters->bytes, UINT32_MAX);
      continue;
    }
    add_u32(&parameters->bytes, sizeof values[i]);
    add_u64(&parameters->bytes, (uint64_t)values[i]);
  }
  end_value(parameters);
}

void parameters_add_i64_array(struct parameters *parameters, const int64_t *values, const bool *nulls, int count) {
  add_eight_bytes_array(parameters, OID_INT8, values, nulls, count);
}

void parameters_add_time_array(struct parameters *parameters, const int64_t *values, int count) {
  add_eight_bytes_array(parameters, OID_TIMESTAMPTZ, values, NULL, count);
}

/* A tid travels as a block number and a place in the block. */
void parameters_add_tid_array(struct parameters *parameters, const uint64_t *values, int count) {
  begin_array(parameters, OID_TID, count);
  buffer_space(&parameters->bytes, (size_t)count * 10); /* once for all */
  for (int i = 0; i < count; i++) {
    uint16_t place = htobe16((uint16_t)values[i]);
    add_u32(&parameters->bytes, sizeof(uint32_t) + sizeof place);
    add_u32(&parameters->bytes, (uint32_t)(values[i] >> 16));
    buffer_add(&parameters->bytes, &place, sizeof place);
  }
  end_value(parameters);
}

void parameters_add_i32_array(struct parameters *parameters, const int32_t *values, int count) {
  begin_array(parameters, OID_INT4, count);
  for (int i = 0; i < count; i++) {
    add_u32(&parameters->bytes, sizeof values[i]);
    add_u32(&parameters->bytes, (uint32_t)values[i]);
  }
  end_value(parameters);
}

void parameters_add_text_array(struct parameters *parameters, const char *const *values, int count) {
  begin_array(parameters, OID_TEXT, count);
  for (int i = 0; i < count; i++) {
    size_t length = values[i] ? strlen(values[i]) : 0;
    add_u32(&parameters->bytes, values[i] ? (uint32_t)length : UINT32_MAX);
    buffer_add(&parameters->bytes, values[i], length);
  }
  end_value(parameters);
}

static uint32_t read_u32(const char *bytes) {
  uint32_t value;
  memcpy(&value, bytes, sizeof value);
  return be32toh(value);
}

int64_t result_i64(const PGresult *result, int row, int column) {
  uint64_t value;
  memcpy(&value, PQgetvalue(result, row, column), sizeof value);
  return (int64_t)be64toh(value);
}

int32_t result_i32(const PGresult *result, int row, int column) {
  return (int32_t)read_u32(PQgetvalue(result, row, column));
}

uint64_t result_tid(const PGresult *result, int row, int column) {
  uint16_t place;
  if (PQgetisnull(result, row, column))
    return 0;
  const char *bytes = PQgetvalue(result, row, column);
  memcpy(&place, bytes + sizeof(uint32_t), sizeof place);
  return (uint64_t)read_u32(bytes) << 16 | be16toh(place);
}

double time_as_seconds(int64_t us) {
  if (us == INT64_MAX || us == INT64_MIN)
    return us > 0 ? HUGE_VAL : -HUGE_VAL;
  return (double)us / 1e6 + POSTGRES_EPOCH_S;
}

int result_text_array(const char *bytes, int length, int (*each)(void *context, const char *text, size_t length),
                      void *context) {
  if (length < 12 || read_u32(bytes) > 1 || read_u32(bytes + 8) != OID_TEXT)
    return -1;
  if (read_u32(bytes) == 0)
    return 0;
  const char *at = bytes + 20;
  for (uint32_t i = 0, count = read_u32(bytes + 12); i < count; i++) {
    uint32_t size = read_u32(at);
    at += 4;
    int result = each(context, size == UINT32_MAX ? NULL : at, size == UINT32_MAX ? 0 : size);
    if (result != 0)
      return result;
    at += size == UINT32_MAX ? 0 : size;
  }
  return 0;
}
