#include "script_options.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"

/* These are read when the worker starts only. */
static const char *const fixed[] = {"db", "drain", "executors", "listen", "pooler", "no_prepare", "connect_timeout"};

static const struct message_setting *find(const struct message_setting *items, uint32_t count, const char *name) {
  for (uint32_t i = 0; i < count; i++)
    if (strcmp(items[i].name, name) == 0)
      return &items[i];
  return NULL;
}

static void set(struct script_options *applied, const char *name, const char *value) {
  struct message_setting *item = (struct message_setting *)find(applied->items, applied->count, name);
  if (!item) {
    applied->items = memory_resize(applied->items, (applied->count + 1) * sizeof *applied->items);
    item = &applied->items[applied->count++];
    *item = (struct message_setting){.name = memory_text(name)};
  }
  free(item->value);
  item->value = memory_text(value);
}

static int apply(struct options *options, const struct message_setting *setting) {
  struct option_problem problem;
  if (options_from_script(options, setting->name, setting->value, &problem) == 0)
    return 0;
  log_error("a setting of the script is wrong", LOG_T("error", problem.message));
  return -1;
}

int script_options_apply(struct script_options *applied, struct options *options, const struct message_ready *script) {
  int status = 0;
  for (uint32_t i = 0; i < script->setting_count; i++) {
    status |= apply(options, &script->settings[i]);
    set(applied, script->settings[i].name, script->settings[i].value);
  }
  return status;
}

static bool is_fixed(const char *name) {
  for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
    if (strcmp(fixed[i], name) == 0)
      return true;
  return false;
}

static void warn(const char *name) {
  log_warn("the reloaded script has changed an option that applies when the worker is started: start it again",
           LOG_T("option", name));
}

void script_options_reapply(struct script_options *applied, struct options *options,
                            const struct message_ready *script) {
  for (uint32_t i = 0; i < applied->count; i++)
    if (!find(script->settings, script->setting_count, applied->items[i].name))
      warn(applied->items[i].name); /* its default is not known any more */
  for (uint32_t i = 0; i < script->setting_count; i++) {
    const struct message_setting *setting = &script->settings[i];
    const struct message_setting *old = find(applied->items, applied->count, setting->name);
    if (old && strcmp(old->value, setting->value) == 0)
      continue;
    if (is_fixed(setting->name))
      warn(setting->name);
    else
      apply(options, setting);
    set(applied, setting->name, setting->value);
  }
}

void script_options_free(struct script_options *applied) {
  for (uint32_t i = 0; i < applied->count; i++) {
    free(applied->items[i].name);
    free(applied->items[i].value);
  }
  free(applied->items);
  *applied = (struct script_options){0};
}
