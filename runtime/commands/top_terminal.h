#ifndef PGQ_TOP_TERMINAL_H
#define PGQ_TOP_TERMINAL_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

/* The terminal of `pgq-lua top`, and the signals that concern it. */

/*
 * top_terminal_open(): takes stdin and stdout as the terminal: no echo, each key at once, UTF-8, colours if the
 * terminal has them and NO_COLOR is not set. Returns 0, or -1 after a message on stderr.
 */
int top_terminal_open(void) __attribute__((warn_unused_result));

/* top_terminal_close(): restores the terminal. */
void top_terminal_close(void);

/* top_terminal_has_colors(): whether there are colours. */
bool top_terminal_has_colors(void);

/*
 * top_terminal_wait(fd, timeout_ms): waits for a key, for `fd` (as top_session_poll() returns it), for a signal, or
 * until the time is over; -1: without limit. Follows the signals about the screen: its new size, being stopped and
 * continued. Returns false when the program is to end: at SIGTERM, SIGINT, SIGQUIT and SIGHUP, and when the terminal is
 * gone.
 */
bool top_terminal_wait(struct pollfd fd, int64_t timeout_ms);

/* top_terminal_was_changed(): whether the whole screen is to be drawn again, since the last call. */
bool top_terminal_was_changed(void);

/* top_terminal_signal(): the signal that is to end the program, or 0. */
int top_terminal_signal(void);

#endif
