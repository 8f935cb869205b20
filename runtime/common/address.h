#ifndef PGQ_ADDRESS_H
#define PGQ_ADDRESS_H

#include <stddef.h>

/* Where a server listens, as --listen takes it. */

/* Large enough for each address that was read, as numbers. */
enum { ADDRESS_HOST_SIZE = 64 };

struct address {
  char host[ADDRESS_HOST_SIZE]; /* an IP address as numbers, without brackets */
  unsigned short port;          /* 0: any free port */
};

/* Large enough for address_text(). */
enum { ADDRESS_TEXT_SIZE = ADDRESS_HOST_SIZE + 8 };

/*
 * address_parse(text, address, why): reads `127.0.0.1:9188`, `[::1]:9188`, `localhost:9188`, `:9188` or `9188`. Without
 * a host it is 127.0.0.1. Other names are not accepted: looking them up can take long, and can give several addresses.
 * Returns 0, or -1 and a static text that goes on after the value: "is …".
 */
int address_parse(const char *text, struct address *address, const char **why);

/* address_text(address, text): writes it as host:port, with brackets around a host with colons. Returns `text`. */
char *address_text(const struct address *address, char text[static ADDRESS_TEXT_SIZE]);

#endif
