#include "printable.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const struct {
  uint32_t first, last;
} hidden[] = {
    {0x00, 0x1f},        /* C0 */
    {0x7f, 0x9f},        /* DEL, C1 */
    {0xad, 0xad},        /* soft hyphen */
    {0x34f, 0x34f},      /* combining grapheme joiner */
    {0x61c, 0x61c},      /* Arabic letter mark */
    {0x115f, 0x1160},    /* Hangul fillers */
    {0x17b4, 0x17b5},    /* Khmer inherent vowels */
    {0x180b, 0x180f},    /* Mongolian selectors and separator */
    {0x200b, 0x200f},    /* without a width; marks of direction */
    {0x2028, 0x202e},    /* separators of lines; embeddings and overrides of direction */
    {0x2060, 0x206f},    /* joiner, invisible operators, isolates of direction */
    {0x3164, 0x3164},    /* Hangul filler */
    {0xfdd0, 0xfdef},    /* no characters */
    {0xfeff, 0xfeff},    /* byte order mark */
    {0xffa0, 0xffa0},    /* Hangul filler */
    {0xfff0, 0xfffb},    /* annotations */
    {0xfffe, 0xffff},    /* no characters */
    {0x1bca0, 0x1bca3},  /* controls of shorthand */
    {0x1d173, 0x1d17a},  /* controls of music */
    {0xe0000, 0xe0fff},  /* tags, selectors */
    {0xffffe, 0x10ffff}, /* private, no characters */
};

/* Reads one character of valid UTF-8, and returns its length. */
static int decode(const unsigned char *p, uint32_t *code) {
  if (p[0] < 0x80) {
    *code = p[0];
    return 1;
  }
  int length = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
  *code = p[0] & (0xffu >> (length + 1));
  for (int i = 1; i < length; i++)
    *code = *code << 6 | (p[i] & 0x3f);
  return length;
}

static int is_hidden(uint32_t code) {
  if (code >= 0x20 && code < 0x7f)
    return 0;
  for (size_t i = 0; i < sizeof hidden / sizeof hidden[0] && code >= hidden[i].first; i++)
    if (code <= hidden[i].last)
      return 1;
  return 0;
}

int printable_is(const char *text) {
  uint32_t code;
  for (const unsigned char *p = (const unsigned char *)text; *p;) {
    p += decode(p, &code);
    if (is_hidden(code))
      return 0;
  }
  return 1;
}

/* Writes an escape for `code`; `escaped` has at least 16 bytes. */
static void escape(char *escaped, uint32_t code, enum printable_form form) {
  if (form <= PRINTABLE_CELL && (code == '\n' || code == '\t' || code == '\r'))
    snprintf(escaped, 16, "\\%c", code == '\n' ? 'n' : code == '\t' ? 't' : 'r');
  else if (form != PRINTABLE_JSON && code < 0x80)
    snprintf(escaped, 16, "\\x%02x", code);
  else if (code < 0x10000)
    snprintf(escaped, 16, "\\u%04x", code);
  else if (form != PRINTABLE_JSON)
    snprintf(escaped, 16, "\\U%08x", code);
  else
    snprintf(escaped, 16, "\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10), 0xdc00 + (code & 0x3ff));
}

void printable_add(struct buffer *out, const char *text, enum printable_form form) {
  const unsigned char *plain = (const unsigned char *)text, *p = plain;
  while (*p) {
    char escaped[16];
    uint32_t code;
    int length = decode(p, &code);
    if (form == PRINTABLE_TEXT && (code == '"' || code == '\\'))
      snprintf(escaped, sizeof escaped, "\\%c", (int)code);
    else if (is_hidden(code) && !(form == PRINTABLE_LINES && (code == '\n' || code == '\t')))
      escape(escaped, code, form);
    else
      escaped[0] = '\0';
    p += length;
    if (!escaped[0])
      continue;
    buffer_add(out, plain, (size_t)(p - plain) - (size_t)length);
    buffer_add(out, escaped, strlen(escaped));
    plain = p;
  }
  buffer_add(out, plain, (size_t)(p - plain));
}
