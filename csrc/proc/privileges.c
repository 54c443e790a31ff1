#include "proc/privileges.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int
fail(char *why, size_t why_room, const char *what)
{
    snprintf(why, why_room, "%s: %s", what, strerror(errno));
    return -1;
}

/* Whether a group that we do not want is left. */
static int
check_groups(const pws_privileges *p, char *why, size_t why_room)
{
    gid_t group;
    int n = getgroups(0, NULL);

    if (p->groups_of != NULL) {
        return 0;
    }
    if (n == 0 || (n == 1 && getgroups(1, &group) == 1 && group == p->gid)) {
        return 0;
    }
    snprintf(why, why_room, "supplementary groups are left");
    return -1;
}

static int
check(const pws_privileges *p, char *why, size_t why_room)
{
    uid_t uid[3];
    gid_t gid[3];

    if (getresuid(&uid[0], &uid[1], &uid[2]) < 0 ||
        getresgid(&gid[0], &gid[1], &gid[2]) < 0) {
        return fail(why, why_room, "getresuid");
    }
    for (int i = 0; i < 3; i++) {
        if (uid[i] != p->uid || gid[i] != p->gid) {
            snprintf(why, why_room, "the kernel has not changed user or group");
            return -1;
        }
    }
    if (p->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0)) {
        snprintf(why, why_room, "the way back to root is open");
        return -1;
    }
    return check_groups(p, why, why_room);
}

int
pws_privileges_drop(const pws_privileges *p, char *why, size_t why_room)
{
    if (geteuid() != 0) {
        if (p->uid == geteuid() && p->gid == getegid()) {
            return 0;
        }
        snprintf(why, why_room, "only root can become another user or group");
        return -1;
    }
    if (p->groups_of != NULL ? initgroups(p->groups_of, p->gid) < 0
                             : setgroups(1, &p->gid) < 0) {
        return fail(why, why_room, "setgroups");
    }
    if (setresgid(p->gid, p->gid, p->gid) < 0) {
        return fail(why, why_room, "setresgid");
    }
    if (setresuid(p->uid, p->uid, p->uid) < 0) {
        return fail(why, why_room, "setresuid");
    }
    return check(p, why, why_room);
}

int
pws_privileges_forbid_new(char *why, size_t why_room)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return fail(why, why_room, "prctl");
    }
    return 0;
}
