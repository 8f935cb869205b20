#ifndef PGQ_TEXT_H
#define PGQ_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Text as Postgres stores it: UTF-8 without NUL. */

/* text_is_utf8(text, length): whether the bytes are valid UTF-8 (no overlong forms, no surrogates, nothing above
 * U+10FFFF) without a NUL. True if `length` is 0. */
bool text_is_utf8(const char *text, size_t length);

/* text_clean(out, out_size, in, length): copies `length` bytes from `in` to `out` as text that text_is_utf8() accepts.
 * Each NUL, and each byte that does not belong to a character, becomes U+FFFD. A text that does not fit into `out_size`
 * bytes is cut between two characters and ends in "…" (three bytes; omitted if `out_size` is below four). A NUL
 * follows, unless `out_size` is 0. Returns the number of bytes before the NUL. `in` and `out` must not overlap. */
size_t text_clean(char *out, size_t out_size, const char *in, size_t length);

#endif
