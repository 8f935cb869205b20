#include "doctor_report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "listing_table.h"
#include "printable.h"

/* On a terminal: the level, the check, and the finding in the rest of the line. */
enum { LEVEL_WIDTH = 6, CHECK_WIDTH = 14, INDENT = LEVEL_WIDTH + CHECK_WIDTH };

static const struct listing_column columns[] = {
    {"level", "LEVEL", LISTING_TEXT},
    {"check", "CHECK", LISTING_TEXT},
    {"finding", "FINDING", LISTING_TEXT},
    {"repair", "REPAIR", LISTING_TEXT},
};

enum { COLUMNS = sizeof columns / sizeof columns[0] };

void doctor_report_begin(struct doctor_report *report, const struct options *options) {
  *report = (struct doctor_report){.is_terminal = !options->json && isatty(STDOUT_FILENO)};
  listing_init(&report->listing, options, columns, COLUMNS, "");
}

/* The bytes of a word, and in *width its characters. */
static size_t measure(const char *word, int *width) {
  size_t bytes = strcspn(word, " ");
  *width = 0;
  for (size_t i = 0; i < bytes; i++)
    *width += (word[i] & 0xc0) != 0x80;
  return bytes;
}

/* Prints the text, whose first line begins at the column INDENT, as lines that fit the terminal. */
static void print_wrapped(const char *text) {
  struct buffer printable = {0};
  int column = INDENT, most = listing_table_width(), width;
  printable_add(&printable, text, PRINTABLE_CELL);
  buffer_add(&printable, "", 1);
  for (const char *word = (const char *)printable.bytes; *word;) {
    size_t bytes = measure(word, &width);
    if (column > INDENT && column + 1 + width > most) {
      printf("\n%*s", INDENT, "");
      column = INDENT;
    } else if (column > INDENT) {
      putchar(' ');
      column++;
    }
    fwrite(word, 1, bytes, stdout);
    column += width;
    word += bytes + (word[bytes] == ' ');
  }
  putchar('\n');
  buffer_free(&printable);
}

static void print_now(struct doctor_report *report) {
  if (fflush(stdout) != 0 && report->failure == 0)
    report->failure = errno;
}

void doctor_report_add(struct doctor_report *report, const char *check, const char *level, const char *finding,
                       const char *repair) {
  report->ok += strcmp(level, "ok") == 0;
  report->warn += strcmp(level, "warn") == 0;
  report->bad += strcmp(level, "bad") == 0;
  if (!report->is_terminal) {
    listing_add(&report->listing, (const char *[]){level, check, finding, repair});
    print_now(report);
    return;
  }
  printf("%-*s%-*s", LEVEL_WIDTH, level, CHECK_WIDTH, check);
  print_wrapped(finding);
  if (repair) {
    printf("%*s", INDENT, "");
    print_wrapped(repair);
  }
  print_now(report);
}

int doctor_report_end(struct doctor_report *report) {
  char summary[96];
  snprintf(summary, sizeof summary, "%d ok, %d warn, %d bad", report->ok, report->warn, report->bad);
  errno = report->failure; /* it is what listing_finish() prints if the lines before could not be written */
  int status = listing_finish(&report->listing, "doctor", summary) == 0 ? 0 : 1;
  return report->bad > 0 ? 1 : status;
}
