#include "address.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse_port(const char *text, unsigned short *port) {
  size_t digits = strspn(text, "0123456789");
  long value = strtol(text, NULL, 10);
  if (digits == 0 || digits > 5 || text[digits] != '\0' || value > 65535)
    return -1;
  *port = (unsigned short)value;
  return 0;
}

static bool is_ip(const char *host) {
  unsigned char bytes[16];
  return inet_pton(strchr(host, ':') ? AF_INET6 : AF_INET, host, bytes) == 1;
}

/* Takes the host out of text[0..length), which may have brackets. */
static int parse_host(const char *text, size_t length, struct address *address) {
  bool has_brackets = length >= 2 && text[0] == '[' && text[length - 1] == ']';
  if (has_brackets) {
    text++;
    length -= 2;
  }
  if (length >= sizeof address->host)
    return -1;
  snprintf(address->host, sizeof address->host, "%.*s", (int)length, text);
  if (length == 0 || strcmp(address->host, "localhost") == 0)
    strcpy(address->host, "127.0.0.1");
  bool has_colons = strchr(address->host, ':') != NULL;
  return is_ip(address->host) && has_brackets == has_colons ? 0 : -1;
}

int address_parse(const char *text, struct address *address, const char **why) {
  const char *colon = strrchr(text, ':');
  if (parse_port(colon ? colon + 1 : text, &address->port) != 0) {
    *why = "does not end in a port from 0 to 65535; write an address such as 127.0.0.1:9188, [::1]:9188 or 9188";
    return -1;
  }
  if (parse_host(text, colon ? (size_t)(colon - text) : 0, address) != 0) {
    *why = "has a host that is neither an IP address nor localhost; write an address such as 127.0.0.1:9188, "
           "[::1]:9188 or 0.0.0.0:9188";
    return -1;
  }
  return 0;
}

char *address_text(const struct address *address, char text[static ADDRESS_TEXT_SIZE]) {
  bool has_colons = strchr(address->host, ':') != NULL;
  snprintf(text, ADDRESS_TEXT_SIZE, "%s%s%s:%u", has_colons ? "[" : "", address->host, has_colons ? "]" : "",
           address->port);
  return text;
}
