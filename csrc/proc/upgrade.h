/* upgrade.h - USR2: the program is executed anew beside the one that runs.
 *
 * The new master shares the sockets of the old one, and both sets of workers serve
 * until one of the masters is told to end. The old one reaps its child, the new one
 * watches its parent, and is promoted when that has ended. There are never more than
 * two. */
#ifndef PWS_PROC_UPGRADE_H
#define PWS_PROC_UPGRADE_H

#include "proc/master.h"

/* Before the loop runs: the master `pid`, our parent, has executed us. */
void pws_upgrade_succeed(pws_master *m, pid_t pid);

/* Fork a process for the new master, unless there are two already. Returns 0, or
 * PWS_IS_SUCCESSOR in it. */
int pws_upgrade_start(pws_master *m);

/* In each turn of the loop: has the other one ended? And when the next turn is due. */
void pws_upgrade_turn(pws_master *m);
int64_t pws_upgrade_due_ms(const pws_master *m, int64_t now_ms);

/* A child has been reaped: it may be the new master. */
void pws_upgrade_bury(pws_master *m, pid_t pid, int status);

/* This master begins to stop; its workers have gone. */
void pws_upgrade_stopping(pws_master *m);
void pws_upgrade_end(pws_master *m);

#endif
