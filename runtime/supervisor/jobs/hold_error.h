#ifndef PGQ_HOLD_ERROR_H
#define PGQ_HOLD_ERROR_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/*
 * A failed statement of a hold. The error is logged once, and the hold tries again after waits that grow from 100 ms to
 * 10 s, until its statements succeed.
 */
struct hold_error {
  bool noted; /* a statement of the act under way has failed; the two fields below are valid */
  char sqlstate[6];
  bool in_context; /* the error was raised by a function, such as a trigger's, or while a row was locked */
  char message[1024];
  char logged[1024]; /* the message that was logged last, so that it is not logged again */
  int64_t wait_ms;   /* the next wait */
  int failures;      /* how many acts have failed since hold_error_reset() */
  uv_timer_t timer;
};

/* hold_error_init(error, loop, hold): hold_error_wait_over(hold) will be called after each wait. */
void hold_error_init(struct hold_error *error, uv_loop_t *loop, void *hold);

/* hold_error_close(error, closed): the struct must live until closed() is called, with a handle whose data is the hold.
 */
void hold_error_close(struct hold_error *error, uv_close_cb closed);

/* hold_error_note(error, result): a statement failed; only the first error of an act counts. hold_error_forget(error):
 * the session has ended, so its error no longer matters. */
void hold_error_note(struct hold_error *error, const PGresult *result);
void hold_error_note_text(struct hold_error *error, const char *sqlstate, const char *message);
void hold_error_forget(struct hold_error *error);
bool hold_error_is_noted(const struct hold_error *error);
const char *hold_error_message(const struct hold_error *error);

/* hold_error_is_of_tables(error): the tables have been altered, dropped or renamed, or a plan no longer fits them: a
 * new session checks them, and prepares its statements anew. */
bool hold_error_is_of_tables(const struct hold_error *error);

/*
 * hold_error_is_content(error): the database refuses the content of an outcome. hold_error_is_of_row(error): the error
 * may concern a single row: the content of its outcome, or what a trigger does, whatever error that raises. Errors that
 * pass, such as a deadlock, count only when they have come several times in a row. hold_error_is_of_session(error): the
 * session cannot write (the server is a standby or shuts down, or the protocol is broken), and must be replaced.
 */
bool hold_error_is_content(const struct hold_error *error);
bool hold_error_is_of_row(const struct hold_error *error);
bool hold_error_is_of_session(const struct hold_error *error);

/* hold_error_begin(error, name, wait): logs the error, unless the same message was logged last. Starts the wait if
 * `wait` is true. */
void hold_error_begin(struct hold_error *error, const char *name, bool wait);
/* hold_error_wait(error): starts the next wait, without a line in the log. hold_error_wait_ms(error, wait_ms): starts a
 * wait of that length. hold_error_end_wait(error): ends the wait early; hold_error_wait_over() is not called. */
void hold_error_wait(struct hold_error *error);
void hold_error_wait_ms(struct hold_error *error, int64_t wait_ms);
void hold_error_end_wait(struct hold_error *error);
bool hold_error_is_waiting(const struct hold_error *error);

/* hold_error_reset(error): an act succeeded: the next wait is short again. */
void hold_error_reset(struct hold_error *error);

/* The hold implements this function. It is called when a wait is over. */
void hold_error_wait_over(void *hold);

#endif
