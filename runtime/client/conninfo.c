#include "conninfo.h"

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
