#ifndef PGQ_HOLD_ERROR_H
#define PGQ_HOLD_ERROR_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/*
 * What a hold does about errors of its statements: it is said once, and tried again after waits that grow from 100 ms
 * to 10 s, until an act succeeds.
 */
struct hold_error {
  bool noted; /* in the act under way */
  char sqlstate[6];
  char message[1024];
  char logged[1024]; /* what was said last, so that it is not said again */
  int64_t wait_ms;
  uv_timer_t timer;
};

/* hold_error_init(trouble, loop, hold): after a wait, hold_error_wait_over(hold) is called. */
void hold_error_init(struct hold_error *error, uv_loop_t *loop, void *hold);

/* hold_error_close(trouble, closed): the struct is needed until closed() is called, with a handle whose data is the
 * hold.
 */
void hold_error_close(struct hold_error *error, uv_close_cb closed);

/* hold_error_note(trouble, result): an error; the first of an act counts. hold_error_forget(): there was none after
 * all. */
void hold_error_note(struct hold_error *error, const PGresult *result);
void hold_error_forget(struct hold_error *error);
bool hold_error_is_noted(const struct hold_error *error);
const char *hold_error_message(const struct hold_error *error);

/* Whose fault it is: that of an outcome, whose content the database refuses; or the session's, which cannot write. */
bool hold_error_is_content(const struct hold_error *error);
bool hold_error_is_of_session(const struct hold_error *error);

/* hold_error_begin(trouble, name, wait): logs it, if that is news, and starts the wait if there is to be one. */
void hold_error_begin(struct hold_error *error, const char *name, bool wait);
bool hold_error_is_waiting(const struct hold_error *error);

/* hold_error_reset(trouble): an act succeeded. */
void hold_error_reset(struct hold_error *error);

/* Implemented by the hold. */
void hold_error_wait_over(void *hold);

#endif
