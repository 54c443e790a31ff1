/* reap.h - what becomes of workers that have ended. */
#ifndef PWS_PROC_REAP_H
#define PWS_PROC_REAP_H

#include "proc/master.h"

/* Take note of all workers that have ended. Done at each wake-up: SIGCHLD alone is not
 * trusted, since signals merge, and others may take them. */
void pws_reap(pws_master *m);

/* Look whether a mold has said what came of the worker that it was asked for. */
void pws_reap_learn_pid(pws_master *m, pws_worker *w);

/* A mold is not to be waited for any more: what it has not forked by now it never will.
 * A worker that it has forked, and that has not said so yet, finds its cell taken back.
 */
void pws_reap_forget_unborn(pws_master *m, pid_t mold);

#endif
