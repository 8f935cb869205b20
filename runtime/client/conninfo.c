#include "conninfo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

/* libpq ends the password of a URI at an unescaped @ or /. So only one @ is allowed, and it must stand before any /. */
static bool uri_is_misleading(const char *conninfo) {
  if (strncmp(conninfo, "postgres://", 11) != 0 && strncmp(conninfo, "postgresql://", 13) != 0)
    return false;
  const char *authority = strstr(conninfo, "://") + 3;
  const char *at = strrchr(authority, '@');
  return at != NULL && strcspn(authority, "@/") != (size_t)(at - authority);
}

static bool is_set(const PQconninfoOption *options, const char *keyword) {
  for (; options->keyword != NULL; options++)
    if (strcmp(options->keyword, keyword) == 0)
      return options->val != NULL && *options->val != '\0';
  return false;
}

int conninfo_inspect(const char *conninfo, bool *has_timeout) {
  *has_timeout = getenv("PGCONNECT_TIMEOUT") != NULL || getenv("PGSERVICE") != NULL;
  if (conninfo == NULL || (strchr(conninfo, '=') == NULL && strstr(conninfo, "://") == NULL))
    return 0;
  PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
  if (options == NULL || uri_is_misleading(conninfo)) {
    PQconninfoFree(options);
    return -1;
  }
  *has_timeout = *has_timeout || is_set(options, "connect_timeout") || is_set(options, "service");
  PQconninfoFree(options);
  return 0;
}

bool conninfo_has_secret(const char *conninfo) {
  if (strchr(conninfo, '=') == NULL && strstr(conninfo, "://") == NULL)
    return false;
  PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
  bool secret = options == NULL || uri_is_misleading(conninfo) || is_set(options, "password") ||
                is_set(options, "sslpassword") || is_set(options, "oauth_client_secret");
  PQconninfoFree(options);
  return secret;
}

/*
 * libpq's message has the parameter's name in quotes. Only a text that looks like a name, and stands behind the
 * question mark of the URI only, is shown: a password with an unescaped character may be taken for a parameter.
 */
static bool find_unknown_parameter(const char *conninfo, const char *error, char name[64]) {
  static const char begin[] = "invalid URI query parameter: \"";
  const char *found = error ? strstr(error, begin) : NULL, *query = strchr(conninfo, '?');
  if (!found || !query || uri_is_misleading(conninfo))
    return false;
  found += sizeof begin - 1;
  size_t length = strspn(found, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
  if (length == 0 || length >= 64 || found[length] != '"')
    return false;
  snprintf(name, 64, "%.*s", (int)length, found);
  return strstr(query, name) != NULL && memmem(conninfo, (size_t)(query - conninfo), name, length) == NULL;
}

const char *conninfo_explain(const char *conninfo, char message[CONNINFO_MESSAGE_SIZE]) {
  char *error = NULL, name[64];
  PQconninfoFree(PQconninfoParse(conninfo, &error));
  if (find_unknown_parameter(conninfo, error, name))
    snprintf(message, CONNINFO_MESSAGE_SIZE, "the connection string cannot be read: libpq has no parameter '%s'", name);
  else
    snprintf(message, CONNINFO_MESSAGE_SIZE, "%s", CONNINFO_HELP);
  PQfreemem(error);
  return message;
}
