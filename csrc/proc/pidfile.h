/* pidfile.h - a file with our number, which no two living servers hold.
 *
 * It is locked for as long as it is ours, so two that start at the same moment cannot
 * both have it, and one whose holder has died is known to be stale. A number that
 * somebody else has written there, without a lock, is respected while such a process
 * lives. The lock is flock's: a forked child lets its copy go with pws_pidfile_forget.
 */
#ifndef PWS_PROC_PIDFILE_H
#define PWS_PROC_PIDFILE_H

#include <stddef.h>
#include <sys/types.h>

typedef struct {
    int fd;
    char *path; /* absolute, or good in any directory we change to */
} pws_pidfile;

/* Put a file with our number at `path`: it is written under another name first, so that
 * whatever is at `path` is replaced, and never written into. Returns 0, or -1 with a
 * sentence in `why`. */
int pws_pidfile_open(pws_pidfile *file, const char *path, char *why, size_t why_room);

/* Rename it, under the same conditions. Returns 0, or -1 with a sentence in `why`: it
 * stays where it is. */
int pws_pidfile_move(pws_pidfile *file, const char *path, char *why, size_t why_room);

/* Remove the file, if it is still ours. */
void pws_pidfile_close(pws_pidfile *file);

/* In a forked child: it is the parent's. */
void pws_pidfile_forget(pws_pidfile *file);

#endif
