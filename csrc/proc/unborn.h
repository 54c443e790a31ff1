/* unborn.h - workers that a mold was asked for, while nobody has said to be one.
 *
 * Such a worker has a place, and no process that is known. Whose mold has done its part
 * is given `timeout` to claim its cell; then it is none any more, and another one is
 * started. For pws_late_check. */
#ifndef PWS_PROC_UNBORN_H
#define PWS_PROC_UNBORN_H

#include "proc/master.h"

static inline bool
pws_unborn_is(const pws_worker *w)
{
    return w->state != PWS_WORKER_NONE && w->pid == 0;
}

/* Begin the time of such a worker, or see that it is over. */
void pws_unborn_check(pws_master *m, pws_worker *w, int64_t now_ms);

#endif
