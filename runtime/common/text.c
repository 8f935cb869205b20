#include "text.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"
#define ELLIPSIS "\xe2\x80\xa6"

/* Returns the length of the character at `p`, where `left` bytes are readable; 0 if it is not valid or is a NUL. */
static size_t character_length(const unsigned char *p, size_t left) {
  unsigned char first = p[0];
  if (first < 0x80)
    return first != 0;
  size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || left < length)
    return 0;
  for (size_t i = 1; i < length; i++)
    if ((p[i] & 0xc0) != 0x80)
      return 0;
  /* The second byte shows overlong forms, surrogates, and numbers above U+10FFFF. */
  if ((first == 0xe0 && p[1] < 0xa0) || (first == 0xed && p[1] > 0x9f) || (first == 0xf0 && p[1] < 0x90) ||
      (first == 0xf4 && p[1] > 0x8f))
    return 0;
  return length;
}

bool text_is_utf8(const char *text, size_t length) {
  const unsigned char *p = (const unsigned char *)text;
  while (length > 0) {
    size_t step = character_length(p, length);
    if (step == 0)
      return false;
    p += step;
    length -= step;
  }
  return true;
}

size_t text_clean(char *out, size_t out_size, const char *in, size_t length) {
  const size_t mark = sizeof ELLIPSIS - 1;
  size_t used = 0, cut_at = 0; /* cut_at: the last boundary of characters where the mark still fits */
  if (out_size == 0)
    return 0;
  size_t room = out_size - 1;
  for (size_t at = 0; at < length;) {
    size_t step = character_length((const unsigned char *)in + at, length - at);
    const char *from = step > 0 ? in + at : REPLACEMENT;
    size_t size = step > 0 ? step : sizeof REPLACEMENT - 1;
    if (used + size > room) {
      if (room >= mark) {
        memcpy(out + cut_at, ELLIPSIS, mark);
        used = cut_at + mark;
      }
      break;
    }
    memcpy(out + used, from, size);
    used += size;
    at += step > 0 ? step : 1;
    if (used + mark <= room)
      cut_at = used;
  }
  out[used] = '\0';
  return used;
}
