#ifndef PGQ_CORES_H
#define PGQ_CORES_H

/*
 * How many CPU cores this process may use. Containers and service managers limit it in two ways: by an affinity (a
 * cpuset), and by a quota of a cgroup, such as 50 ms of each 100 ms.
 */

/* cores_available(): the cores of the affinity, or the quota rounded up if that is less; at least 1. */
int cores_available(void);

/*
 * cores_of_quota(root): the smallest CPU quota of the process's cgroup and of those above it, as far as they are
 * mounted, in cores; cgroup v1 and v2. 0: there is no quota, or none that can be read. `root` is put before the names
 * of all files: "" for the real ones.
 */
double cores_of_quota(const char *root);

#endif
