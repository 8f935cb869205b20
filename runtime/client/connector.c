#include "connector.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "lookup.h"

enum { PARAMETERS_MOST = 24, HOSTS_MOST = 32, ERROR_SIZE = 4096 };

/* One element of the lists host, hostaddr and port; NULL or "": not given. */
struct host {
  const char *name, *address, *port;
};

struct connector {
  const char *keywords[PARAMETERS_MOST], *values[PARAMETERS_MOST];
  int given; /* the parameters of the caller; behind them come those of one address */

  PQconninfoOption *options; /* all parameters, also from the environment and the service file */
  char *lists[3];            /* copies of host, hostaddr and port, cut into elements */
  struct host hosts[HOSTS_MOST];
  int host_count; /* 0: libpq gets the parameters unchanged, in one attempt */
  bool random, prefers_standby;
  int64_t timeout_ms; /* 0: none */
  unsigned seed;

  int pass;              /* 1: there was no standby, so any server will do */
  int host;              /* index of the host that is tried; -1: before the first */
  struct lookup *lookup; /* its look-up, while that is under way */
  char addresses[LOOKUP_ADDRESSES_MOST][LOOKUP_ADDRESS_SIZE];
  int address_count, address; /* of the host, if its name was looked up; the index of the next one */
  PGconn *pg;                 /* the attempt with one address */
  ConnStatusType status;      /* of the attempt, before the last step */
  int64_t deadline_ms;
  char error[ERROR_SIZE];
};

/* ── what is to be tried ── */

static const char *option(const struct connector *c, const char *keyword) {
  for (const PQconninfoOption *o = c->options; o && o->keyword; o++)
    if (strcmp(o->keyword, keyword) == 0)
      return o->val ? o->val : "";
  return "";
}

/*
 * libpq alone knows how the connection string, a URI, the service file and the environment make up the parameters. It
 * says so for a connection that it has refused because of one of them, before it looks up anything.
 */
static PQconninfoOption *read_options(const struct connector *c) {
  const char *keywords[PARAMETERS_MOST + 1], *values[PARAMETERS_MOST + 1];
  memcpy(keywords, c->keywords, sizeof c->keywords);
  memcpy(values, c->values, sizeof c->values);
  keywords[c->given] = "ssl_min_protocol_version";
  values[c->given] = "only the parameters are wanted";
  keywords[c->given + 1] = NULL;
  PGconn *refused = PQconnectStartParams(keywords, values, 1);
  PQconninfoOption *options = PQconninfo(refused);
  PQfinish(refused);
  return options;
}

/* Cuts a list into elements. Returns how many; -1 if there are too many, or memory runs out. An empty list has none. */
static int split(const char *list, char **copy, const char *elements[static HOSTS_MOST]) {
  int count = 0;
  if (!*list)
    return 0;
  char *rest = *copy = strdup(list);
  while (rest && count < HOSTS_MOST)
    elements[count++] = strsep(&rest, ",");
  return *copy && !rest ? count : -1;
}

static bool is_given(const char *text) {
  return text && *text;
}

static bool is_socket(const char *host) {
  return *host == '/' || *host == '@';
}

/* Reads the lists. What is unusual, or an error, is left to libpq: then there are no hosts. */
static void read_hosts(struct connector *c) {
  const char *names[HOSTS_MOST] = {0}, *addresses[HOSTS_MOST] = {0}, *ports[HOSTS_MOST] = {0};
  int name_count = split(option(c, "host"), &c->lists[0], names);
  int address_count = split(option(c, "hostaddr"), &c->lists[1], addresses);
  int port_count = split(option(c, "port"), &c->lists[2], ports);
  int count = name_count > address_count ? name_count : address_count;
  if (name_count < 0 || address_count < 0 || port_count < 0 || (port_count > 1 && port_count != count) ||
      (name_count > 0 && address_count > 0 && name_count != address_count))
    return;
  for (int i = 0; i < count; i++) {
    struct host *host = &c->hosts[i];
    *host = (struct host){names[i], addresses[i], ports[port_count > 1 ? i : 0]};
    bool odd = !is_given(host->name) && (name_count > 0 || !is_given(host->address));
    if (odd || (address_count > 0 && !is_given(host->address)) || (port_count > 0 && !is_given(host->port)))
      return;
  }
  c->host_count = count;
}

static void shuffle_hosts(struct connector *c) {
  for (int i = c->host_count - 1; c->random && i > 0; i--) {
    int other = rand_r(&c->seed) % (i + 1);
    struct host host = c->hosts[i];
    c->hosts[i] = c->hosts[other];
    c->hosts[other] = host;
  }
}

static void shuffle_addresses(struct connector *c) {
  for (int i = c->address_count - 1; c->random && i > 0; i--) {
    char address[LOOKUP_ADDRESS_SIZE];
    int other = rand_r(&c->seed) % (i + 1);
    memcpy(address, c->addresses[i], sizeof address);
    memcpy(c->addresses[i], c->addresses[other], sizeof address);
    memcpy(c->addresses[other], address, sizeof address);
  }
}

static int64_t read_timeout(const struct connector *c, int64_t default_ms) {
  const char *text = option(c, "connect_timeout");
  long seconds = strtol(text, NULL, 10);
  return !*text ? default_ms : seconds > 0 ? seconds * INT64_C(1000) : 0;
}

struct connector *connector_start(const char *const *keywords, const char *const *values, int64_t default_ms) {
  struct connector *c = calloc(1, sizeof *c);
  if (!c)
    return NULL;
  for (; keywords[c->given] && c->given < PARAMETERS_MOST - 5; c->given++) {
    c->keywords[c->given] = keywords[c->given];
    c->values[c->given] = values[c->given];
  }
  c->options = read_options(c);
  c->timeout_ms = read_timeout(c, default_ms);
  c->random = strcmp(option(c, "load_balance_hosts"), "random") == 0;
  c->prefers_standby = strcmp(option(c, "target_session_attrs"), "prefer-standby") == 0;
  c->seed = (unsigned)clock_us() ^ (unsigned)getpid();
  c->host = -1;
  read_hosts(c);
  shuffle_hosts(c);
  return c;
}

/* ── one attempt after the other ── */

static void note_error(struct connector *c, const char *text) {
  size_t length = strlen(c->error);
  snprintf(c->error + length, sizeof c->error - length, "%s%s", length > 0 && c->error[length - 1] != '\n' ? "\n" : "",
           text);
}

static void set_deadline(struct connector *c) {
  c->deadline_ms = c->timeout_ms > 0 ? clock_ms() + c->timeout_ms : -1;
}

static void add_parameter(struct connector *c, int *count, const char *keyword, const char *value) {
  if (!is_given(value))
    return;
  c->keywords[*count] = keyword;
  c->values[(*count)++] = value;
}

/* Begins with one address of the host, or with the host itself if nothing was looked up. */
static void begin_attempt(struct connector *c, const char *address) {
  int count = c->given;
  if (c->host_count > 0) {
    const struct host *host = &c->hosts[c->host];
    add_parameter(c, &count, "host", host->name);
    add_parameter(c, &count, "hostaddr", address);
    add_parameter(c, &count, "port", host->port);
  }
  if (c->prefers_standby && c->host_count > 0)
    add_parameter(c, &count, "target_session_attrs", c->pass == 0 ? "standby" : "any");
  c->keywords[count] = NULL;
  c->pg = PQconnectStartParams(c->keywords, c->values, 1);
  c->status = PQstatus(c->pg);
  set_deadline(c);
}

/* libpq's message names the address only: the name that was looked up is written before it. */
static void end_attempt(struct connector *c, const char *error) {
  char text[1536];
  const char *message = error ? error : c->pg ? PQerrorMessage(c->pg) : "out of memory";
  if (c->address_count > 0 && !error) {
    snprintf(text, sizeof text, "host \"%s\": %s", c->hosts[c->host].name, message);
    message = text;
  }
  note_error(c, message);
  PQfinish(c->pg);
  c->pg = NULL;
}

/* Whether libpq would have to look up the host. */
static bool needs_lookup(const struct host *host) {
  struct addrinfo *found, hints = {.ai_flags = AI_NUMERICHOST};
  if (!is_given(host->name) || is_given(host->address) || is_socket(host->name))
    return false;
  if (getaddrinfo(host->name, NULL, &hints, &found) != 0)
    return true;
  freeaddrinfo(found);
  return false;
}

/* Begins with the next address or the next host. Returns false when all have been tried. */
static bool begin_next(struct connector *c) {
  if (c->address < c->address_count) {
    begin_attempt(c, c->addresses[c->address++]);
    return true;
  }
  c->address = c->address_count = 0;
  int count = c->host_count > 0 ? c->host_count : 1;
  if (++c->host == count && c->host_count > 0 && c->prefers_standby && c->pass == 0) {
    c->pass = 1;
    c->host = 0;
    *c->error = '\0';
  }
  if (c->host >= count)
    return false;
  const struct host *host = &c->hosts[c->host];
  if (c->host_count == 0 || !needs_lookup(host)) {
    begin_attempt(c, host->address);
    return true;
  }
  c->lookup = lookup_start(host->name);
  set_deadline(c);
  if (!c->lookup)
    note_error(c, "out of memory");
  return c->lookup || begin_next(c);
}

/* Takes the addresses, if the look-up has ended. */
static bool take_lookup(struct connector *c) {
  const char *problem;
  char text[512];
  int count = lookup_take(c->lookup, c->addresses, &problem);
  if (count < 0)
    return false;
  if (count == 0) {
    snprintf(text, sizeof text, "could not translate host name \"%s\" to address: %s", c->hosts[c->host].name, problem);
    note_error(c, text);
  }
  c->address_count = count;
  shuffle_addresses(c);
  lookup_free(c->lookup);
  c->lookup = NULL;
  return true;
}

/* A server that has answered has refused the session: its other addresses are not tried. */
static void note_refusal(struct connector *c) {
  if (c->status == CONNECTION_AWAITING_RESPONSE || c->status == CONNECTION_AUTH_OK)
    c->address = c->address_count;
}

enum connector_progress connector_step(struct connector *c) {
  if (c->lookup && !take_lookup(c))
    return CONNECTOR_READ;
  if (c->pg) {
    switch (PQconnectPoll(c->pg)) {
    case PGRES_POLLING_OK:
      return CONNECTOR_DONE;
    case PGRES_POLLING_READING:
      c->status = PQstatus(c->pg);
      return CONNECTOR_READ;
    case PGRES_POLLING_WRITING:
      c->status = PQstatus(c->pg);
      return CONNECTOR_WRITE;
    default:
      end_attempt(c, NULL);
      note_refusal(c);
    }
  }
  while (begin_next(c)) {
    if (c->lookup)
      return CONNECTOR_READ;
    if (PQstatus(c->pg) != CONNECTION_BAD)
      return CONNECTOR_WRITE;
    end_attempt(c, NULL);
  }
  return CONNECTOR_FAILED;
}

enum connector_progress connector_expire(struct connector *c) {
  char text[768];
  int seconds = (int)(c->timeout_ms / 1000);
  if (c->lookup) {
    snprintf(text, sizeof text, "could not translate host name \"%s\" to address: no answer within %d s",
             c->hosts[c->host].name, seconds);
    note_error(c, text);
    lookup_free(c->lookup);
    c->lookup = NULL;
  } else if (c->pg) {
    const char *host = PQhost(c->pg), *address = PQhostaddr(c->pg), *port = PQport(c->pg);
    snprintf(text, sizeof text, "connection to server at \"%s\" (%s), port %s failed: no answer within %d s",
             host ? host : "", address ? address : "", port ? port : "", seconds);
    end_attempt(c, text);
  }
  return connector_step(c);
}

int connector_fd(const struct connector *c) {
  return c->lookup ? lookup_fd(c->lookup) : PQsocket(c->pg);
}

int64_t connector_left_ms(const struct connector *c) {
  int64_t left_ms = c->deadline_ms - clock_ms();
  return c->deadline_ms < 0 ? -1 : left_ms > 0 ? left_ms : 0;
}

PGconn *connector_take(struct connector *c) {
  PGconn *pg = c->pg;
  c->pg = NULL;
  return pg;
}

const char *connector_error(const struct connector *c) {
  return c->error;
}

void connector_free(struct connector *c) {
  if (!c)
    return;
  lookup_free(c->lookup);
  PQfinish(c->pg);
  PQconninfoFree(c->options);
  for (int i = 0; i < 3; i++)
    free(c->lists[i]);
  free(c);
}
