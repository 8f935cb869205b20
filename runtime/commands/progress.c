#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

enum { BAR_WIDTH = 20, REDRAW_US = 100000, LINE_SIZE = 160 };

static int64_t bytes_left(int fd) {
  struct stat stat;
  off_t at = lseek(fd, 0, SEEK_CUR);
  if (fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode) || at < 0 || at >= stat.st_size)
    return 0;
  return stat.st_size - at;
}

void progress_begin(struct progress *progress, int fd) {
  *progress = (struct progress){.visible = isatty(STDERR_FILENO)};
  if (!progress->visible)
    return;
  progress->total = bytes_left(fd);
  progress->began_us = clock_us();
  progress->next_us = progress->began_us + REDRAW_US;
}

/* "[=====>              ]  27%  "; "" if the total is unknown. */
static void format_bar(const struct progress *progress, int64_t bytes, char out[LINE_SIZE]) {
  char bar[BAR_WIDTH + 1];
  out[0] = '\0';
  if (progress->total == 0)
    return;
  double part = bytes < progress->total ? (double)bytes / (double)progress->total : 1;
  int filled = (int)(part * BAR_WIDTH);
  memset(bar, ' ', BAR_WIDTH);
  memset(bar, '=', (size_t)filled);
  if (filled < BAR_WIDTH)
    bar[filled] = '>';
  bar[BAR_WIDTH] = '\0';
  snprintf(out, LINE_SIZE, "[%s] %3d%%  ", bar, (int)(part * 100));
}

static void format_time(int64_t seconds, char out[LINE_SIZE]) {
  if (seconds < 3600)
    snprintf(out, LINE_SIZE, "%d:%02d", (int)(seconds / 60), (int)(seconds % 60));
  else
    snprintf(out, LINE_SIZE, "%" PRId64 ":%02d:%02d", seconds / 3600, (int)(seconds / 60 % 60), (int)(seconds % 60));
}

/* The spaces at the end overwrite the rest of a longer line. */
static void draw(struct progress *progress, int64_t lines, int64_t bytes, const char *time_is, double seconds,
                 double elapsed) {
  char bar[LINE_SIZE], time[LINE_SIZE];
  format_bar(progress, bytes, bar);
  format_time((int64_t)(seconds + 0.5), time);
  fprintf(stderr, "\r%s%" PRId64 " lines  %.0f/s  %s %s    ", bar, lines, elapsed > 0 ? (double)lines / elapsed : 0,
          time_is, time);
  progress->drawn = true;
}

void progress_update(struct progress *progress, int64_t lines, int64_t bytes) {
  int64_t now_us;
  if (!progress->visible || (now_us = clock_us()) < progress->next_us)
    return;
  progress->next_us = now_us + REDRAW_US;
  double elapsed = (double)(now_us - progress->began_us) / 1e6;
  if (progress->total > bytes && bytes > 0)
    draw(progress, lines, bytes, "ETA", elapsed * (double)(progress->total - bytes) / (double)bytes, elapsed);
  else
    draw(progress, lines, bytes, "in", elapsed, elapsed);
}

void progress_count(struct progress *progress, const char *done, int64_t jobs) {
  int64_t now_us;
  if (!progress->visible || (now_us = clock_us()) < progress->next_us)
    return;
  progress->next_us = now_us + REDRAW_US;
  double elapsed = (double)(now_us - progress->began_us) / 1e6;
  fprintf(stderr, "\r%s %" PRId64 " jobs  %.0f/s    ", done, jobs, elapsed > 0 ? (double)jobs / elapsed : 0);
  progress->drawn = true;
}

void progress_done(struct progress *progress, int64_t lines, int64_t bytes) {
  double elapsed = (double)(clock_us() - progress->began_us) / 1e6;
  if (progress->visible)
    draw(progress, lines, bytes, "in", elapsed, elapsed);
  progress_leave(progress);
}

void progress_leave(struct progress *progress) {
  if (progress->drawn)
    fputc('\n', stderr);
  progress->drawn = false;
}
