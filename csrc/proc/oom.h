/* oom.h - how many processes of our cgroup the kernel has killed for want of memory.
 *
 * The kernel counts them for each cgroup (oom_kill in memory.events of version 2, in
 * memory.oom_control of version 1). Somebody else's SIGKILL leaves the count alone, so
 * it tells the two apart. */
#ifndef PWS_PROC_OOM_H
#define PWS_PROC_OOM_H

#include <stdint.h>

#define PWS_OOM_PATH_MAX 1024

typedef struct {
    char path[PWS_OOM_PATH_MAX]; /* "": there is no such file */
    int64_t count;               /* when it was last read; -1: it cannot be */
} pws_oom;

/* Find the file of this process' cgroup and read it: `self` is /proc/self/cgroup and
 * `mounts` /sys/fs/cgroup, outside of tests. */
void pws_oom_open(pws_oom *oom, const char *self, const char *mounts);

/* Read it again. Returns how many there are now, or -1; `*before` is the last count. */
int64_t pws_oom_read(pws_oom *oom, int64_t *before);

#endif
