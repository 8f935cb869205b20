#ifndef PGQ_CONNECTOR_H
#define PGQ_CONNECTOR_H

#include <libpq-fe.h>
#include <stdint.h>

/*
 * Connects to a server step by step, without blocking. libpq would block while a name server does not answer, and
 * observes connect_timeout only when it blocks. So names are looked up in threads (lookup.h), and libpq gets one
 * address at a time, as hostaddr beside the host: certificates, .pgpass and Kerberos still go by the name.
 *
 *     connector_start ─ (wait for connector_fd, at most connector_left_ms ─ connector_step or connector_expire)* ─
 *     connector_take ─ connector_free
 *
 * All hosts of a list are tried, and all addresses of each, in order, or in random order with
 * load_balance_hosts=random. connect_timeout is the limit for each look-up and for each address. As in libpq, a server
 * that refuses the session (wrong password) is not asked again under its other addresses.
 */
struct connector;

enum connector_progress {
  CONNECTOR_READ,  /* wait until the descriptor can be read */
  CONNECTOR_WRITE, /* wait until it can be written */
  CONNECTOR_DONE,
  CONNECTOR_FAILED,
};

/*
 * connector_start(keywords, values, default_ms): the arguments of PQconnectStartParams() with dbname expanded; the
 * texts must outlive the connector. `default_ms`: the time limit if there is no connect_timeout. Returns NULL when
 * memory runs out. connector_step() must follow at once.
 */
struct connector *connector_start(const char *const *keywords, const char *const *values, int64_t default_ms);

/* connector_step(connector): goes on. The descriptor may be another one than before, even if it has the same number. */
enum connector_progress connector_step(struct connector *connector);

/* connector_expire(connector): the time is over: goes on with the next address. */
enum connector_progress connector_expire(struct connector *connector);

/* connector_fd(connector): the descriptor to wait for. connector_left_ms(connector): how long; -1: without limit. */
int connector_fd(const struct connector *connector);
int64_t connector_left_ms(const struct connector *connector);

/* connector_take(connector): after CONNECTOR_DONE, returns the connection, which then belongs to the caller. */
PGconn *connector_take(struct connector *connector);

/* connector_error(connector): after CONNECTOR_FAILED, libpq's messages about all addresses, one below the other. */
const char *connector_error(const struct connector *connector);

/* connector_free(connector): gives up, if it is still connecting. NULL is allowed. */
void connector_free(struct connector *connector);

#endif
