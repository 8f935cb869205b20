#include "cores.h"

#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The quota of one cgroup, in cores; 0: none. */
typedef double quota_reader(const char *folder);

static bool read_file(const char *folder, const char *name, char *text, int size) {
  char path[PATH_MAX];
  if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
    return false;
  FILE *file = fopen(path, "re");
  bool found = file && fgets(text, size, file);
  if (file)
    fclose(file);
  return found;
}

static double divide(double quota_us, double period_us) {
  return quota_us > 0 && period_us > 0 ? quota_us / period_us : 0;
}

static double read_v2(const char *folder) {
  char text[64];
  double quota_us, period_us;
  if (!read_file(folder, "cpu.max", text, sizeof text) || sscanf(text, "%lf %lf", &quota_us, &period_us) != 2)
    return 0; /* "max 100000" */
  return divide(quota_us, period_us);
}

static double read_v1(const char *folder) {
  char quota[64], period[64];
  if (!read_file(folder, "cpu.cfs_quota_us", quota, sizeof quota) ||
      !read_file(folder, "cpu.cfs_period_us", period, sizeof period))
    return 0;
  return divide(strtod(quota, NULL), strtod(period, NULL)); /* a quota of -1 is none */
}

/* The least quota of the folders from `top` to `top` + `below`. */
static double least_quota(const char *top, const char *below, quota_reader *reader) {
  char folder[PATH_MAX];
  double least = 0;
  if (snprintf(folder, sizeof folder, "%s%s", top, below) >= (int)sizeof folder)
    return 0;
  for (size_t length = strlen(folder); length >= strlen(top); folder[length] = '\0') {
    double quota = reader(folder);
    if (quota > 0 && (least == 0 || quota < least))
      least = quota;
    while (length > 0 && folder[length - 1] != '/')
      length--;
    if (length-- == 0)
      break;
  }
  return least;
}

static bool has_word(const char *list, const char *word) {
  size_t length = strlen(word);
  for (; list; list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL)
    if (strncmp(list, word, length) == 0 && strchr(",\n", list[length]))
      return true;
  return false;
}

/* Finds the process's cgroup of a hierarchy in /proc/self/cgroup, whose lines are "NUMBER:CONTROLLERS:PATH". Version 2
 * has the number 0 and no controllers. */
static bool find_group(const char *root, bool v2, char path[static PATH_MAX]) {
  char name[PATH_MAX], line[PATH_MAX + 256];
  bool found = false;
  snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
  FILE *file = fopen(name, "re");
  while (file && !found && fgets(line, sizeof line, file)) {
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group)
      continue;
    *group++ = '\0';
    group[strcspn(group, "\n")] = '\0';
    found = v2 ? strcmp(line, "0:") == 0 : has_word(controllers + 1, "cpu");
    if (found)
      snprintf(path, PATH_MAX, "%s", group);
  }
  if (file)
    fclose(file);
  return found;
}

/* Replaces the escapes of mountinfo, such as \040 for a space. */
static void unescape(char *text) {
  char *out = text;
  for (const char *in = text; *in; out++) {
    unsigned code;
    if (*in == '\\' && sscanf(in, "\\%3o", &code) == 1) {
      *out = (char)code;
      in += 4;
    } else {
      *out = *in++;
    }
  }
  *out = '\0';
}

/*
 * The part of a cgroup's path that is below the mounted folder. A container may see the path of the host, while the
 * mount shows its own group only, or a path that leaves its cgroup namespace ("/.."): then it is the mounted folder
 * itself.
 */
static const char *below_mount(const char *group, const char *mounted) {
  size_t length = strcmp(mounted, "/") == 0 ? 0 : strlen(mounted);
  if (strncmp(group, mounted, length) != 0 || (group[length] != '/' && group[length] != '\0') || strstr(group, "/.."))
    return "";
  return strcmp(group + length, "/") == 0 ? "" : group + length;
}

/* A line of /proc/self/mountinfo: "31 30 0:28 ROOT POINT options… - TYPE SOURCE SUPER-OPTIONS". */
static double quota_of_mount(const char *root, char *line, bool v2, const char *group) {
  char mounted[PATH_MAX], point[PATH_MAX], type[32], super[1024], top[PATH_MAX];
  char *rest = strstr(line, " - ");
  if (!rest || sscanf(line, "%*s %*s %*s %4095s %4095s", mounted, point) != 2 ||
      sscanf(rest, " - %31s %*s %1023s", type, super) != 2)
    return 0;
  if (strcmp(type, v2 ? "cgroup2" : "cgroup") != 0 || (!v2 && !has_word(super, "cpu")))
    return 0;
  unescape(mounted);
  unescape(point);
  if (snprintf(top, sizeof top, "%s%s", root, point) >= (int)sizeof top)
    return 0;
  return least_quota(top, below_mount(group, mounted), v2 ? read_v2 : read_v1);
}

static double quota_of_version(const char *root, bool v2) {
  char group[PATH_MAX], name[PATH_MAX], *line = NULL;
  size_t size = 0;
  double least = 0;
  if (!find_group(root, v2, group))
    return 0;
  snprintf(name, sizeof name, "%s/proc/self/mountinfo", root);
  FILE *file = fopen(name, "re");
  while (file && getline(&line, &size, file) > 0) {
    double quota = quota_of_mount(root, line, v2, group);
    if (quota > 0 && (least == 0 || quota < least))
      least = quota;
  }
  free(line);
  if (file)
    fclose(file);
  return least;
}

double cores_of_quota(const char *root) {
  double v1 = quota_of_version(root, false), v2 = quota_of_version(root, true);
  return v1 > 0 && (v2 == 0 || v1 < v2) ? v1 : v2;
}

/* The size of the set is a guess that grows: the call fails if the machine has more cores than the set. */
static int cores_of_affinity(void) {
  enum { LEAST = 1024, MOST = 1 << 20 };
  int count = 1;
  for (int size = LEAST; size <= MOST; size *= 4) {
    cpu_set_t *set = CPU_ALLOC((size_t)size);
    if (!set)
      break;
    bool found = sched_getaffinity(0, CPU_ALLOC_SIZE((size_t)size), set) == 0;
    if (found)
      count = CPU_COUNT_S(CPU_ALLOC_SIZE((size_t)size), set);
    CPU_FREE(set);
    if (found)
      break;
  }
  return count;
}

int cores_available(void) {
  int cores = cores_of_affinity();
  double quota = ceil(cores_of_quota(""));
  if (quota >= 1 && quota < cores)
    cores = (int)quota;
  return cores > 0 ? cores : 1;
}
