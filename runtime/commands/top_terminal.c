#include "top_terminal.h"

#include <curses.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <unistd.h>

enum { ESCAPE_WAIT_MS = 50 }; /* what comes later than that after Esc is another key */

static SCREEN *screen;
static sigset_t outside; /* the signal mask while the program waits */
static volatile sig_atomic_t end_signal, was_stopped, was_continued, was_resized;
static bool is_changed;

static void on_signal(int number) {
  if (number == SIGTSTP)
    was_stopped = 1;
  else if (number == SIGCONT)
    was_continued = 1;
  else if (number == SIGWINCH)
    was_resized = 1;
  else
    end_signal = number;
}

static const int signals[] = {SIGTSTP, SIGCONT, SIGWINCH, SIGTERM, SIGINT, SIGQUIT, SIGHUP};

enum { SIGNALS = sizeof signals / sizeof signals[0] };

/* Signals come only while the program waits. Those that it was told to ignore stay ignored. */
static void take_signals(void) {
  sigset_t ours;
  sigemptyset(&ours);
  for (int i = 0; i < SIGNALS; i++) {
    struct sigaction action = {.sa_handler = on_signal}, old;
    sigemptyset(&action.sa_mask);
    sigaction(signals[i], NULL, &old);
    if (old.sa_handler == SIG_IGN)
      continue;
    sigaction(signals[i], &action, NULL);
    sigaddset(&ours, signals[i]);
  }
  signal(SIGPIPE, SIG_IGN);
  sigprocmask(SIG_BLOCK, &ours, &outside);
  for (int i = 0; i < SIGNALS; i++)
    sigdelset(&outside, signals[i]);
}

/* curses writes UTF-8 only in a locale that has it; the lists of other commands are UTF-8 in every locale. */
static void use_utf8(void) {
  setlocale(LC_CTYPE, "");
  if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
    setlocale(LC_CTYPE, "C.UTF-8");
}

/* Returns what is wrong with the terminal, or NULL. */
static const char *find_misfit(void) {
  int found = 0;
  const char *name = getenv("TERM");
  if (!name || !*name)
    return "TERM is not set";
  if (setupterm(NULL, STDOUT_FILENO, &found) != OK)
    return found == 0 ? "TERM names a terminal that this machine does not know" : "there is no database of terminals";
  bool fits = cursor_address && clear_screen;
  del_curterm(cur_term);
  return fits ? NULL : "TERM names a terminal that cannot move its cursor";
}

int top_terminal_open(void) {
  if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
    fprintf(stderr,
            "pgq-lua top: %s is not a terminal; `pgq-lua queues` prints the list once, and as JSON with --json\n",
            isatty(STDOUT_FILENO) ? "standard input" : "standard output");
    return -1;
  }
  use_utf8();
  const char *misfit = find_misfit();
  if (!misfit) {
    take_signals(); /* before curses, which leaves these alone then */
    screen = newterm(NULL, stdout, stdin);
    misfit = screen ? NULL : "the terminal cannot be used";
  }
  if (misfit) {
    const char *name = getenv("TERM");
    fprintf(stderr, "pgq-lua top: %s (TERM=%.100s); set TERM to what the terminal is, such as xterm-256color\n", misfit,
            name ? name : "");
    return -1;
  }
  cbreak();
  noecho();
  nonl();
  keypad(stdscr, TRUE);
  nodelay(stdscr, TRUE);
  set_escdelay(ESCAPE_WAIT_MS);
  curs_set(0);
  const char *no_color = getenv("NO_COLOR");
  if (has_colors() && !(no_color && *no_color)) {
    start_color();
    use_default_colors();
  }
  return 0;
}

void top_terminal_close(void) {
  endwin();
  delscreen(screen);
  screen = NULL;
}

bool top_terminal_has_colors(void) {
  const char *no_color = getenv("NO_COLOR");
  return has_colors() && !(no_color && *no_color);
}

static void redraw(void) {
  clearok(curscr, TRUE);
  is_changed = true;
}

/* Stops as the shell expects it, with the terminal as it was before. */
static void stop(void) {
  sigset_t stops;
  struct sigaction plain = {.sa_handler = SIG_DFL}, ours;
  sigemptyset(&plain.sa_mask);
  sigemptyset(&stops);
  sigaddset(&stops, SIGTSTP);
  endwin();
  sigaction(SIGTSTP, &plain, &ours);
  raise(SIGTSTP);
  sigprocmask(SIG_UNBLOCK, &stops, NULL); /* stops here */
  sigprocmask(SIG_BLOCK, &stops, NULL);
  sigaction(SIGTSTP, &ours, NULL);
  was_continued = was_resized = 1;
}

static void resize(void) {
  struct winsize size = {0};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
    resizeterm(size.ws_row, size.ws_col);
}

static void follow_signals(void) {
  if (was_stopped) {
    was_stopped = 0;
    stop();
  }
  if (was_continued) {
    was_continued = 0;
    reset_prog_mode();
    curs_set(0);
    redraw();
  }
  if (was_resized) {
    was_resized = 0;
    resize();
    redraw();
  }
}

bool top_terminal_wait(struct pollfd fd, int64_t timeout_ms) {
  struct pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, fd};
  struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};
  int ready = ppoll(fds, fd.fd < 0 ? 1 : 2, timeout_ms < 0 ? NULL : &timeout, &outside);
  if (ready < 0 && errno == EINTR)
    follow_signals();
  bool is_gone = ready > 0 && (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
  if (is_gone && !end_signal)
    end_signal = SIGHUP;
  return end_signal == 0;
}

bool top_terminal_was_changed(void) {
  bool was = is_changed;
  is_changed = false;
  return was;
}

int top_terminal_signal(void) {
  return end_signal;
}
