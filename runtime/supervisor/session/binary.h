#ifndef PGQ_BINARY_H
#define PGQ_BINARY_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

/* Parameters and results of statements in Postgres' binary form. */

enum {
  OID_BOOL = 16,
  OID_BYTEA = 17,
  OID_INT8 = 20,
  OID_INT4 = 23,
  OID_TEXT = 25,
  OID_TID = 27,
  OID_INT4_ARRAY = 1007,
  OID_TEXT_ARRAY = 1009,
  OID_TID_ARRAY = 1010,
  OID_INT8_ARRAY = 1016,
  OID_TIMESTAMPTZ = 1184,
  OID_TIMESTAMPTZ_ARRAY = 1185,
};

/* No statement has more parameters. */
enum { PARAMETERS_MAX = 12 };

/*
 * Parameters of one statement, in Postgres' binary form. Zero the struct, add the values in order, send, free.
 * Values are copied. A text of NULL is SQL's null.
 */
struct parameters {
  struct buffer bytes;
  int count;
  size_t offsets[PARAMETERS_MAX];
  int lengths[PARAMETERS_MAX]; /* -1: null */
};

void parameters_free(struct parameters *parameters);
void parameters_add_bool(struct parameters *parameters, bool value);
void parameters_add_i32(struct parameters *parameters, int32_t value);
void parameters_add_i64(struct parameters *parameters, int64_t value);
void parameters_add_text(struct parameters *parameters, const char *value);

/*
 * Arrays: int8[], timestamptz[] (microseconds, as result_i64() reads one), int4[], tid[] (as result_tid() reads one),
 * and text[] in which a NULL element is SQL's null. In an int8[], `nulls` says which elements are null, or is NULL:
 * rows can have every number, so none stands for null. The pointers are not kept.
 */
void parameters_add_i64_array(struct parameters *parameters, const int64_t *values, const bool *nulls, int count);
void parameters_add_time_array(struct parameters *parameters, const int64_t *values, int count);
void parameters_add_i32_array(struct parameters *parameters, const int32_t *values, int count);
void parameters_add_tid_array(struct parameters *parameters, const uint64_t *values, int count);
void parameters_add_text_array(struct parameters *parameters, const char *const *values, int count);

/* These functions read a value of a binary result. */
int64_t result_i64(const PGresult *result, int row, int column);
int32_t result_i32(const PGresult *result, int row, int column);

/* result_tid(result, row, column): a tid as a number, never 0; 0 for null. */
uint64_t result_tid(const PGresult *result, int row, int column);

/* time_as_seconds(us): a timestamptz, read with result_i64(), as Unix seconds; Postgres' ±infinity becomes
 * ±infinity. */
double time_as_seconds(int64_t us);

/*
 * result_text_array(bytes, length, each, context): calls each(context, text, length) for every element of a binary
 * text[]; text is NULL for a null element. Returns 0, or -1 if the value is not a one-dimensional array. each() may
 * return non-zero to end early with that result.
 */
int result_text_array(const char *bytes, int length, int (*each)(void *context, const char *text, size_t length),
                      void *context);

#endif
