#ifndef PGQ_TEXT_H
#define PGQ_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Text as Postgres stores it: UTF-8 without NUL. */

/* True if the `length` bytes at `text` are valid UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF) and
 * hold no NUL. No bytes are valid text. */
bool text_is_utf8(const char *text, size_t length);

/* Copies the `length` bytes at `in` to `out`, which has room for `out_size` bytes, as text that text_is_utf8() accepts:
 * each byte that is no part of a character, and each NUL, becomes U+FFFD. What does not fit is cut off, never inside a
 * character, and the text then ends in "…" (three bytes; left out when `out_size` is below four). The result ends in a
 * NUL, unless `out_size` is 0. Returns the number of bytes before that NUL. `in` and `out` must not overlap. */
size_t text_clean(char *out, size_t out_size, const char *in, size_t length);

#endif
