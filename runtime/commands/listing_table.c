#include "listing_table.h"

#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "memory.h"
#include "printable.h"

enum { LEAST_WIDTH = 8, NOTE_INDENT = 2 };

int listing_table_width(void) {
  struct winsize size = {0};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
    return 80;
  return size.ws_col < 40 ? 40 : size.ws_col;
}

/* Makes mbrtowc() and wcwidth() read UTF-8, whatever the user's locale is. */
static void use_utf8(void) {
  static locale_t utf8;
  if (!utf8 && (utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0)))
    uselocale(utf8);
}

/* Reads the character at *text, which is not the NUL, and returns how many columns it takes. */
static int take_character(const char **text) {
  wchar_t character;
  mbstate_t state = {0};
  size_t bytes = mbrtowc(&character, *text, 8, &state);
  if (bytes == 0 || bytes > 8) { /* not in the locale: a byte of UTF-8 that continues a character takes no column */
    int columns = (**text & 0xc0) != 0x80;
    (*text)++;
    return columns;
  }
  int columns = wcwidth(character);
  *text += bytes;
  return columns < 0 ? 1 : columns;
}

int listing_table_columns(const char *text) {
  int columns = 0;
  use_utf8();
  while (*text)
    columns += take_character(&text);
  return columns;
}

int listing_table_cut(struct buffer *out, const char *text, int width) {
  int all = listing_table_columns(text);
  if (all <= width) {
    buffer_add(out, text, strlen(text));
    return all;
  }
  const char *end = text, *next = text;
  int columns = 0, more;
  while (columns + (more = take_character(&next)) <= width - 1) {
    columns += more;
    end = next;
  }
  buffer_add(out, text, (size_t)(end - text));
  buffer_add(out, "…", strlen("…"));
  return columns + 1;
}

/* Prints the text, cut to `width` columns. Returns the columns used. */
static int print_cut(const char *text, int width) {
  struct buffer out = {0};
  int columns = listing_table_cut(&out, text, width);
  fwrite(out.bytes, 1, out.length, stdout);
  buffer_free(&out);
  return columns;
}

/* Prints a text, wrapped at blanks, of which `column` columns of the first line are printed already. */
static void wrap(FILE *out, const char *text, int column, int indent, int width) {
  bool fresh = column > 0; /* the first word follows without a blank */
  while (*text) {
    const char *end = text;
    int columns = 0;
    int most = width - (fresh ? column : indent);
    while (*end && *end != ' ' && columns < most)
      columns += take_character(&end);
    if (fresh) {
      fresh = false;
    } else if (column == 0 || column + 1 + columns > width) {
      fprintf(out, "%s%*s", column ? "\n" : "", indent, "");
      column = indent;
    } else {
      putc(' ', out);
      column++;
    }
    fwrite(text, 1, (size_t)(end - text), out);
    column += columns;
    text = end + strspn(end, " ");
  }
  if (column > 0)
    putc('\n', out);
}

void listing_table_note(FILE *out, const char *text, int indent, int width) {
  use_utf8();
  wrap(out, text, 0, indent, width);
}

void listing_table_line(FILE *out, const char *text, int column, int width) {
  enum { DEEPER = 2 };
  if (width == 0 || column + listing_table_columns(text) <= width) {
    fprintf(out, "%s\n", text);
    return;
  }
  int blanks = (int)strspn(text, " ");
  blanks = blanks > width / 4 ? width / 4 : blanks;
  fprintf(out, "%*s", blanks, "");
  wrap(out, text + strspn(text, " "), column + blanks, column + blanks + DEEPER, width);
}

void listing_table_field(FILE *out, const char *label, const char *value, int width) {
  enum { INDENT = 2, LABEL = 12, DEEPER = 2 };
  struct buffer text = {0};
  while (value && *value) {
    size_t length = strcspn(value, "\n");
    bool has_tab = *value == '\t'; /* as in tracebacks */
    char *line = strndup(value + has_tab, length - has_tab);
    text.length = 0;
    printable_add(&text, line, PRINTABLE_CELL);
    buffer_add(&text, "", 1);
    if (*text.bytes || *label) {
      fprintf(out, "%*s%-*s", INDENT, "", LABEL + (has_tab ? DEEPER : 0), label);
      listing_table_line(out, (const char *)text.bytes, INDENT + LABEL + (has_tab ? DEEPER : 0), width);
    } else {
      putc('\n', out);
    }
    free(line);
    value += length + (value[length] == '\n');
    label = "";
  }
  buffer_free(&text);
}

bool listing_table_in_row(const struct listing_column *column) {
  return column->title && column->kind != LISTING_NOTE;
}

bool listing_table_is_right(const struct listing_column *column) {
  return column->kind == LISTING_NUMBER || column->kind == LISTING_COUNT || column->kind == LISTING_PART ||
         column->kind == LISTING_AGE || column->kind == LISTING_DURATION;
}

/* Makes the widest column that may shrink one column narrower, until all fit. */
static void shrink(const struct listing_column *columns, int count, int *widths, int most) {
  int sum = -LISTING_TABLE_GAP;
  for (int i = 0; i < count; i++)
    sum += listing_table_in_row(&columns[i]) ? widths[i] + LISTING_TABLE_GAP : 0;
  for (; sum > most; sum--) {
    int widest = -1;
    for (int i = 0; i < count; i++)
      if (listing_table_in_row(&columns[i]) && columns[i].kind == LISTING_LONG && widths[i] > LEAST_WIDTH &&
          (widest < 0 || widths[i] > widths[widest]))
        widest = i;
    if (widest < 0)
      return;
    widths[widest]--;
  }
}

void listing_table_fit(const struct listing_column *columns, int count, const char *const *cells, size_t rows, int most,
                       int *widths) {
  use_utf8();
  for (size_t i = 0; i < rows * (size_t)count; i++) {
    int width = cells[i] ? listing_table_columns(cells[i]) : 0, *widest = &widths[i % (size_t)count];
    *widest = width > *widest ? width : *widest;
  }
  shrink(columns, count, widths, most);
}

static void print_row(const struct listing_column *columns, int count, const char *const *cells, const int *widths) {
  int missing = 0, first = 1;
  for (int i = 0; i < count; i++) {
    if (!listing_table_in_row(&columns[i]))
      continue;
    const char *cell = *cells[i] ? cells[i] : "-";
    int spare = widths[i] - listing_table_columns(cell);
    if (spare < 0)
      spare = 0;
    printf("%*s", missing + (first ? 0 : LISTING_TABLE_GAP) + (listing_table_is_right(&columns[i]) ? spare : 0), "");
    missing = widths[i] - print_cut(cell, widths[i]) - (listing_table_is_right(&columns[i]) ? spare : 0);
    first = 0;
  }
  putchar('\n');
}

void listing_table_print(const struct listing_column *columns, int count, const char *cells, int rows) {
  int terminal = listing_table_width();
  size_t total = (size_t)rows * (size_t)count;
  const char **all = memory_new((total + (size_t)count) * sizeof *all); /* the titles are the first row */
  int *widths = memory_new((size_t)count * sizeof *widths);
  for (int i = 0; i < count; i++)
    all[i] = columns[i].title ? columns[i].title : "";
  for (size_t i = 0; i < total; i++, cells += strlen(cells) + 1)
    all[(size_t)count + i] = cells;
  for (int i = 0; i < count; i++)
    widths[i] = 1;
  listing_table_fit(columns, count, all, (size_t)rows + 1, terminal, widths);
  for (int row = 0; row <= rows; row++) {
    const char **cells_of_row = all + (size_t)row * (size_t)count;
    print_row(columns, count, cells_of_row, widths);
    for (int i = 0; i < count && row > 0; i++)
      if (columns[i].title && columns[i].kind == LISTING_NOTE)
        listing_table_note(stdout, cells_of_row[i], NOTE_INDENT, terminal);
  }
  free(widths);
  free(all);
}
