#include "start_line.h"

#include <string.h>

#include "buffer.h"
#include "log.h"
#include "version.h"

static void add_option(void *context, const char *name, const char *value, bool is_word) {
  struct buffer *text = context;
  (void)is_word;
  if (text->length > 0)
    buffer_add(text, " ", 1);
  buffer_add(text, name, strlen(name));
  buffer_add(text, "=", 1);
  buffer_add(text, value, strlen(value));
}

void start_line_log(const struct options *options, const struct control *control, const char *script, int queues,
                    int executors) {
  struct database_name database = control_database(control);
  struct buffer text = {0};
  options_each_changed(options, add_option, &text);
  log_info("worker is serving", LOG_T("version", PGQ_LUA_VERSION), LOG_T("script", script), LOG_I("queues", queues),
           LOG_I("executors", executors), LOG_I("concurrency", options->concurrency), LOG_I("pool", options->pool),
           LOG_T("host", database.host), LOG_T("port", database.port), LOG_T("database", database.name),
           LOG_T("user", database.user),
           text.length > 0 ? LOG_B("options", (const char *)text.bytes, text.length) : (struct log_field){0});
  buffer_free(&text);
}
