#include "socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union any_address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

/* Returns the length. */
static socklen_t make(const struct address *address, union any_address *to) {
  memset(to, 0, sizeof *to);
  if (strchr(address->host, ':')) {
    to->v6.sin6_family = AF_INET6;
    to->v6.sin6_port = htons(address->port);
    inet_pton(AF_INET6, address->host, &to->v6.sin6_addr);
    return sizeof to->v6;
  }
  to->v4.sin_family = AF_INET;
  to->v4.sin_port = htons(address->port);
  inet_pton(AF_INET, address->host, &to->v4.sin_addr);
  return sizeof to->v4;
}

static const char *advice(int error) {
  switch (error) {
  case EADDRINUSE:
    return "another process listens there; stop it, choose another port, or take port 0 for any free one";
  case EADDRNOTAVAIL:
    return "this machine does not have that address; take one that it has, or 0.0.0.0 for all of them";
  case EACCES:
    return "the user may not use that port; choose one above 1023";
  case EAFNOSUPPORT:
    return "this machine does not support that kind of address; take 127.0.0.1";
  default:
    return "choose another address";
  }
}

int http_listen(const struct address *address, struct address *taken, struct http_problem *problem) {
  union any_address at;
  char text[ADDRESS_TEXT_SIZE];
  int on = 1;
  socklen_t length = make(address, &at);
  int fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 || bind(fd, &at.any, length) != 0 ||
      listen(fd, SOMAXCONN) != 0 || getsockname(fd, &at.any, &length) != 0) {
    int error = errno;
    snprintf(problem->message, sizeof problem->message, "cannot listen on %s: %s: %s", address_text(address, text),
             strerror(error), advice(error));
    if (fd >= 0)
      close(fd);
    return -1;
  }
  *taken = *address;
  taken->port = ntohs(at.any.sa_family == AF_INET6 ? at.v6.sin6_port : at.v4.sin_port);
  return fd;
}
