#ifndef PGQ_TROUBLE_H
#define PGQ_TROUBLE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/*
 * What a hold does about errors of its statements: it is said once, and tried again after waits that grow from 100 ms
 * to 10 s, until an act succeeds.
 */
struct trouble {
  bool noted; /* in the act under way */
  char sqlstate[6];
  char message[1024];
  char logged[1024]; /* what was said last, so that it is not said again */
  int64_t wait_ms;
  uv_timer_t timer;
};

/* trouble_init(trouble, loop, hold): after a wait, hold_trouble_over(hold) is called. */
void trouble_init(struct trouble *trouble, uv_loop_t *loop, void *hold);

/* trouble_close(trouble, closed): the struct is needed until closed() is called, with a handle whose data is the hold.
 */
void trouble_close(struct trouble *trouble, uv_close_cb closed);

/* trouble_note(trouble, result): an error; the first of an act counts. trouble_forget(): there was none after all. */
void trouble_note(struct trouble *trouble, const PGresult *result);
void trouble_forget(struct trouble *trouble);
bool trouble_is_noted(const struct trouble *trouble);
const char *trouble_message(const struct trouble *trouble);

/* Whose fault it is: that of an outcome, whose content the database refuses; or the session's, which cannot write. */
bool trouble_is_content(const struct trouble *trouble);
bool trouble_is_of_session(const struct trouble *trouble);

/* trouble_begin(trouble, name, wait): logs it, if that is news, and starts the wait if there is to be one. */
void trouble_begin(struct trouble *trouble, const char *name, bool wait);
bool trouble_is_waiting(const struct trouble *trouble);

/* trouble_over(trouble): an act succeeded. */
void trouble_over(struct trouble *trouble);

/* Implemented by the hold. */
void hold_trouble_over(void *hold);

#endif
