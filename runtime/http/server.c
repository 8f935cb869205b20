#include "server.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "memory.h"
#include "reply.h"
#include "socket.h"

enum { CONNECTIONS_MOST = 64, CONNECTION_MEMORY = 32 << 10 };

/* A connection is closed if no request ends for so long; this is looked at once in CHECK_MS. While more than CROWDED
 * connections are open the time is shorter, so that clients that ask nothing keep nobody out for long. */
enum { REQUEST_MOST_MS = 10000, CROWDED_MOST_MS = 1000, CROWDED = CONNECTIONS_MOST * 3 / 4, CHECK_MS = 500 };

/* For each microsecond of work the server owes RESTS of rest, which it takes when it owes more than OWED_MOST_US. So
 * short turns that follow each other count as a long one does. */
enum { RESTS = 4, OWED_MOST_US = 2000 };

struct client {
  int fd;            /* -1: the place is free */
  int64_t since_ms;  /* when the connection began, or its last request ended */
  bool is_shut_down; /* the library has not closed it yet */
};

struct http_server {
  struct MHD_Daemon *daemon;
  struct address address;
  const struct http_route *routes;
  size_t count;
  void *owner;
  uv_poll_t poll;    /* on the library's epoll descriptor */
  uv_timer_t timer;  /* until the library, or the server, has something to do without an event */
  uint64_t ended_ns; /* when the last turn ended */
  int64_t owed_us;   /* how much rest the server owed then */
  struct client clients[CONNECTIONS_MOST];
  int client_count;
};

/* ── requests ── */

static bool is_readable(const char *method) {
  return strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
}

static void list_pages(const struct http_server *server, struct http_response *response) {
  static const char title[] = "There is no such page. The pages are:\n";
  response->status = MHD_HTTP_NOT_FOUND;
  buffer_add(&response->body, title, sizeof title - 1);
  for (size_t i = 0; i < server->count; i++) {
    char line[160];
    int length = snprintf(line, sizeof line, "%-12s %s\n", server->routes[i].path, server->routes[i].purpose);
    buffer_add(&response->body, line, (size_t)length);
  }
}

static void answer(const struct http_server *server, const struct http_request *request,
                   struct http_response *response) {
  for (size_t i = 0; i < server->count; i++)
    if (strcmp(server->routes[i].path, request->path) == 0) {
      server->routes[i].handle(server->owner, request, response);
      return;
    }
  list_pages(server, response);
}

static enum MHD_Result refuse_method(struct MHD_Connection *connection) {
  static const char text[] = "Only GET and HEAD are answered here.\n";
  struct http_response response = {.status = MHD_HTTP_METHOD_NOT_ALLOWED};
  buffer_add(&response.body, text, sizeof text - 1);
  return reply_send(connection, &response);
}

/* The path of a request whose target has the absolute form, as a proxy sends it: http://host/path. */
static const char *path_of(const char *target) {
  static const char *const schemes[] = {"http://", "https://"};
  for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
    if (strncasecmp(target, schemes[i], strlen(schemes[i])) == 0) {
      const char *path = strchr(target + strlen(schemes[i]), '/');
      return path ? path : "/";
    }
  return target;
}

/* The library takes paths as texts that end with NUL: with an escaped NUL, a path stays as it was sent. */
static size_t unescape(void *owner, struct MHD_Connection *connection, char *text) {
  (void)owner;
  (void)connection;
  return strstr(text, "%00") ? strlen(text) : MHD_http_unescape(text);
}

/* The library calls this when it has the header, for each part of a body, and at the end of the request. */
static enum MHD_Result on_request(void *owner, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *body, size_t *body_size, void **seen) {
  const struct http_server *server = owner;
  (void)version;
  (void)body;
  if (!is_readable(method))
    return *seen ? MHD_NO : refuse_method(connection);
  if (!*seen) {
    *seen = owner;
    return MHD_YES;
  }
  if (*body_size > 0) {
    *body_size = 0; /* nobody asked for it */
    return MHD_YES;
  }
  struct http_request request = {
      .path = path_of(url), .accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT)};
  struct http_response response = {.status = MHD_HTTP_OK};
  answer(server, &request, &response);
  return reply_send(connection, &response);
}

/* ── connections ── */

static struct client *find_place(struct http_server *server) {
  for (int i = 0; i < CONNECTIONS_MOST; i++)
    if (server->clients[i].fd < 0)
      return &server->clients[i];
  return NULL;
}

static void on_connection(void *owner, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what) {
  struct http_server *server = owner;
  struct client *client = *context;
  if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
    if (client) {
      client->fd = -1;
      server->client_count--;
    }
    return;
  }
  client = find_place(server); /* there is one: the library has the same limit */
  *context = client;
  if (!client)
    return;
  *client = (struct client){.fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
                            .since_ms = clock_ms()};
  server->client_count++;
}

static void on_completed(void *owner, struct MHD_Connection *connection, void **seen,
                         enum MHD_RequestTerminationCode how) {
  (void)owner;
  (void)seen;
  (void)how;
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  struct client *client = info ? info->socket_context : NULL;
  if (client)
    client->since_ms = clock_ms();
}

/* The library's own limit counts from the last byte, so that a client that sends one byte after the other could stay
 * for ever. */
static void shut_slow_ones(struct http_server *server) {
  int64_t now_ms = clock_ms(), most_ms = server->client_count > CROWDED ? CROWDED_MOST_MS : REQUEST_MOST_MS;
  for (int i = 0; i < CONNECTIONS_MOST; i++) {
    struct client *client = &server->clients[i];
    if (client->fd < 0 || client->is_shut_down || now_ms - client->since_ms < most_ms)
      continue;
    client->is_shut_down = true;
    shutdown(client->fd, SHUT_RDWR); /* the library sees that, and closes it */
  }
}

/* ── the loop ── */

static void on_event(uv_poll_t *poll, int status, int events);
static void on_timer(uv_timer_t *timer);

/* How long until the library has something to do; -1: it waits for clients only. */
static int64_t next_turn_ms(const struct http_server *server) {
  MHD_UNSIGNED_LONG_LONG library_ms;
  bool has = MHD_get_timeout(server->daemon, &library_ms) == MHD_YES;
  if (has && library_ms < CHECK_MS)
    return (int64_t)library_ms;
  return server->client_count > 0 ? CHECK_MS : has ? (int64_t)library_ms : -1;
}

/* Counts the rest before a turn, and the turn. */
static void count_turn(struct http_server *server, uint64_t began_ns) {
  int64_t rested_us = (int64_t)(began_ns - server->ended_ns) / 1000;
  server->ended_ns = uv_hrtime();
  server->owed_us = server->owed_us > rested_us ? server->owed_us - rested_us : 0;
  server->owed_us += (int64_t)(server->ended_ns - began_ns) / 1000 * RESTS;
}

static void turn(struct http_server *server) {
  uint64_t began_ns = uv_hrtime();
  shut_slow_ones(server);
  MHD_run(server->daemon);
  count_turn(server, began_ns);
  if (server->owed_us > OWED_MOST_US) {
    uv_poll_stop(&server->poll);
    uv_timer_start(&server->timer, on_timer, (uint64_t)server->owed_us / 1000, 0);
    return;
  }
  int64_t next_ms = next_turn_ms(server);
  if (!uv_is_active((uv_handle_t *)&server->poll))
    uv_poll_start(&server->poll, UV_READABLE, on_event);
  if (next_ms < 0)
    uv_timer_stop(&server->timer);
  else
    uv_timer_start(&server->timer, on_timer, (uint64_t)next_ms, 0);
}

static void on_event(uv_poll_t *poll, int status, int events) {
  (void)status;
  (void)events;
  turn(poll->data);
}

static void on_timer(uv_timer_t *timer) {
  turn(timer->data);
}

/* ── life ── */

static struct MHD_Daemon *start_daemon(struct http_server *server, int fd) {
  return MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, server, /* */
                          MHD_OPTION_LISTEN_SOCKET, fd,                     /* */
                          MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MOST, MHD_OPTION_CONNECTION_TIMEOUT,
                          (unsigned)(REQUEST_MOST_MS / 1000), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                          (size_t)CONNECTION_MEMORY, MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,
                          MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_UNESCAPE_CALLBACK, unescape,
                          NULL, MHD_OPTION_END);
}

struct http_server *http_server_new(uv_loop_t *loop, const struct address *address, const struct http_route *routes,
                                    size_t count, void *owner, struct http_problem *problem) {
  struct http_server *server = memory_new(sizeof *server);
  *server = (struct http_server){.routes = routes, .count = count, .owner = owner};
  for (int i = 0; i < CONNECTIONS_MOST; i++)
    server->clients[i].fd = -1;
  int fd = http_listen(address, &server->address, problem);
  if (fd >= 0 && !(server->daemon = start_daemon(server, fd))) {
    snprintf(problem->message, sizeof problem->message,
             "the HTTP server cannot start: is a limit on open files or "
             "memory too low?");
    close(fd);
  }
  if (!server->daemon) {
    free(server);
    return NULL;
  }
  uv_timer_init(loop, &server->timer);
  uv_poll_init(loop, &server->poll, MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
  server->timer.data = server->poll.data = server;
  uv_poll_start(&server->poll, UV_READABLE, on_event);
  return server;
}

struct address http_server_address(const struct http_server *server) {
  return server->address;
}

static void free_server(uv_handle_t *timer) {
  free(timer->data);
}

/* The loop does not look at the descriptor any more, so the library may close it. */
static void stop_daemon(uv_handle_t *poll) {
  struct http_server *server = poll->data;
  MHD_stop_daemon(server->daemon);
  uv_close((uv_handle_t *)&server->timer, free_server);
}

void http_server_free(struct http_server *server) {
  if (!server)
    return;
  uv_timer_stop(&server->timer); /* it may be due now, and is closed later */
  uv_close((uv_handle_t *)&server->poll, stop_daemon);
}
