/* recycle.h - which workers are to be replaced because they have served enough.
 *
 * By requests a worker asks for it itself; by age and by memory the master decides. One
 * that is to be recycled is not wanted any more, but serves until its successor does.
 */
#ifndef PWS_PROC_RECYCLE_H
#define PWS_PROC_RECYCLE_H

#include "proc/master.h"

/* Choose those whose time has come, and say so. Memory is looked at once a second. */
void pws_recycle(pws_master *m, int64_t now_ms);

/* When that is to be called even if nothing happens; PWS_NEVER. */
int64_t pws_recycle_due_ms(const pws_master *m);

/* How long worker `number` lives: a tenth longer at most, by its number, so that not
 * all of a start go at once. */
int64_t pws_recycle_lifetime_ms(int64_t lifetime_ms, unsigned number);

/* What a process has in memory, in bytes; 0 when it cannot be told. */
uint64_t pws_recycle_rss(pid_t pid);

#endif
