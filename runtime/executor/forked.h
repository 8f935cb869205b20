#ifndef PGQ_FORKED_H
#define PGQ_FORKED_H

#include <stdbool.h>
#include <uv.h>

/*
 * Handlers may fork. No code of the executor may run in the child: the parent's outcomes, its socket, its loop and its
 * database sessions are the parent's alone.
 */

/*
 * forked_prepare(loop): to be called once, before the script loads. From then on a child that fork() makes loses its
 * access to the supervisor's socket and to the epoll set of the loop, which it would share with the parent.
 */
void forked_prepare(uv_loop_t *loop);

/* forked_is_child(): whether this process is a child of the executor. It reads one byte. After vfork(), where parent
 * and child share their memory, it is false; forked_is_other_process() asks the kernel. */
bool forked_is_child(void);
bool forked_is_other_process(void);

/*
 * forked_end(failed, error, length): ends a child whose handler, or callback, has returned to the executor's code. The
 * exit status is 0; or 1, with the error on stderr, if it has failed. Without an error the handler waits, which a child
 * cannot. Does not return.
 */
void forked_end(bool failed, const char *error, size_t length) __attribute__((noreturn));

#endif
