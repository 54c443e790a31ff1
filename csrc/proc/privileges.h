/* privileges.h - become another user, completely and for good. */
#ifndef PWS_PROC_PRIVILEGES_H
#define PWS_PROC_PRIVILEGES_H

#include <stddef.h>
#include <sys/types.h>

typedef struct {
    uid_t uid;
    gid_t gid;
    const char *groups_of; /* a user whose groups are taken too; NULL: only `gid` */
} pws_privileges;

/* Take the groups, the group and the user, real, effective and saved, and look whether
 * it is so and cannot be undone. Nothing happens, and only `uid` and `gid` are looked
 * at, where this process may not change anything. Returns 0, or -1 with a sentence in
 * `why`: the process must not go on then. */
int pws_privileges_drop(const pws_privileges *p, char *why, size_t why_room);

/* From now on no program that this process or its children start has more rights than
 * they have, setuid or not, and it cannot be undone. Returns 0, or -1 with a sentence
 * in `why`. */
int pws_privileges_forbid_new(char *why, size_t why_room);

#endif
