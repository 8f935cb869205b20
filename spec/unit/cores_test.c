/* Tests of cores.h, on trees of files that look like /proc and /sys/fs/cgroup. */
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cores.h"

static char root[64];

static int make_root(void **state) {
  (void)state;
  snprintf(root, sizeof root, "/tmp/pgq-cores-XXXXXX");
  return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
  (void)status, (void)type, (void)walk;
  return remove(path);
}

static int remove_root(void **state) {
  (void)state;
  return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Writes a file below the root, and makes the folders above it. */
static void put(const char *name, const char *text) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s%s", root, name);
  for (char *slash = strchr(path + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
    *slash = '/';
  }
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

#define V1_MOUNT "31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
#define V2_MOUNT "31 30 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

static void no_files_are_no_quota(void **state) {
  (void)state;
  assert_true(cores_of_quota(root) == 0);
}

static void a_group_of_version_2(void **state) {
  (void)state;
  put("/proc/self/cgroup", "0::/app.slice/worker.service\n");
  put("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/vda rw\n" V2_MOUNT);
  put("/sys/fs/cgroup/app.slice/worker.service/cpu.max", "150000 100000\n");
  assert_true(cores_of_quota(root) == 1.5);
}

static void max_is_no_quota(void **state) {
  (void)state;
  put("/proc/self/cgroup", "0::/worker\n");
  put("/proc/self/mountinfo", V2_MOUNT);
  put("/sys/fs/cgroup/worker/cpu.max", "max 100000\n");
  assert_true(cores_of_quota(root) == 0);
}

static void the_least_quota_on_the_way_up_applies(void **state) {
  (void)state;
  put("/proc/self/cgroup", "0::/pods/pod/worker\n");
  put("/proc/self/mountinfo", V2_MOUNT);
  put("/sys/fs/cgroup/cpu.max", "800000 100000\n");
  put("/sys/fs/cgroup/pods/cpu.max", "max 100000\n");
  put("/sys/fs/cgroup/pods/pod/cpu.max", "25000 100000\n");
  put("/sys/fs/cgroup/pods/pod/worker/cpu.max", "400000 100000\n");
  assert_true(cores_of_quota(root) == 0.25);
}

static void a_cgroup_namespace_has_its_quota_at_its_root(void **state) {
  (void)state;
  put("/proc/self/cgroup", "0::/\n");
  put("/proc/self/mountinfo", V2_MOUNT);
  put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
  assert_true(cores_of_quota(root) == 2);
  put("/proc/self/cgroup", "0::/../sibling\n");
  assert_true(cores_of_quota(root) == 2);
}

static void a_group_of_version_1(void **state) {
  (void)state;
  put("/proc/self/cgroup", "4:memory:/a\n3:cpuset:/b\n2:cpu,cpuacct:/docker/c\n0::/d\n");
  put("/proc/self/mountinfo", V1_MOUNT);
  put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  put("/sys/fs/cgroup/cpu,cpuacct/docker/c/cpu.cfs_quota_us", "30000\n");
  put("/sys/fs/cgroup/cpu,cpuacct/docker/c/cpu.cfs_period_us", "10000\n");
  assert_true(cores_of_quota(root) == 3);
}

static void a_container_of_version_1_sees_the_path_of_the_host(void **state) {
  (void)state;
  put("/proc/self/cgroup", "2:cpu,cpuacct:/docker/c\n");
  put("/proc/self/mountinfo", "31 30 0:28 /docker/c /sys/fs/cgroup/my\\040cpu ro - cgroup cgroup rw,cpu,cpuacct\n");
  put("/sys/fs/cgroup/my cpu/cpu.cfs_quota_us", "50000\n");
  put("/sys/fs/cgroup/my cpu/cpu.cfs_period_us", "100000\n");
  assert_true(cores_of_quota(root) == 0.5);
  put("/proc/self/cgroup", "2:cpu,cpuacct:/elsewhere\n");
  assert_true(cores_of_quota(root) == 0.5);
}

static void cpuset_is_not_cpu(void **state) {
  (void)state;
  put("/proc/self/cgroup", "2:cpuset:/docker/c\n1:cpuacct:/\n");
  put("/proc/self/mountinfo", V1_MOUNT);
  put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
  put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  assert_true(cores_of_quota(root) == 0);
}

static void broken_files_are_no_quota(void **state) {
  (void)state;
  put("/proc/self/cgroup", "nonsense\n0::/worker\n:\n");
  put("/proc/self/mountinfo", "nonsense - \n\n" V2_MOUNT);
  put("/sys/fs/cgroup/worker/cpu.max", "\n");
  assert_true(cores_of_quota(root) == 0);
  put("/sys/fs/cgroup/worker/cpu.max", "100000 0\n");
  assert_true(cores_of_quota(root) == 0);
  put("/sys/fs/cgroup/worker/cpu.max", "-5 100000\n");
  assert_true(cores_of_quota(root) == 0);
}

static void this_process_has_a_core(void **state) {
  (void)state;
  assert_true(cores_available() >= 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)
  const struct CMUnitTest tests[] = {
      TEST(no_files_are_no_quota),
      TEST(a_group_of_version_2),
      TEST(max_is_no_quota),
      TEST(the_least_quota_on_the_way_up_applies),
      TEST(a_cgroup_namespace_has_its_quota_at_its_root),
      TEST(a_group_of_version_1),
      TEST(a_container_of_version_1_sees_the_path_of_the_host),
      TEST(cpuset_is_not_cpu),
      TEST(broken_files_are_no_quota),
      TEST(this_process_has_a_core),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
