#include "proc/unborn.h"

#include "base/clock.h"
#include "proc/spawn.h"

static const pws_worker *
find_process(const pws_master *m, pid_t pid)
{
    for (unsigned i = 0; i < m->workers.top; i++) {
        const pws_worker *w = &m->workers.all[i];

        if (w->state != PWS_WORKER_NONE && w->pid == pid) {
            return w;
        }
    }
    return NULL;
}

/* Its mold reads what it is asked in turn: when it has answered a later question it has
 * done its part, and the time of the worker itself begins. */
void
pws_unborn_check(pws_master *m, pws_worker *w, int64_t now_ms)
{
    const pws_worker *mold = find_process(m, w->asked_of);

    if (m->settings.timeout_ms <= 0 || mold == NULL) {
        return;
    }
    if (w->claim_ms == PWS_NEVER && mold->sign.heard_ms > w->asked_ms) {
        w->claim_ms = now_ms + m->settings.timeout_ms;
    }
    if (w->claim_ms > now_ms || !pws_cell_revoke(pws_worker_cell(&m->workers, w))) {
        return;
    }
    pws_master_say(m, PWS_LOG_CRITICAL,
                   "WORKER TIMEOUT: one that mold %d has forked "
                   "gives no sign of life",
                   (int)mold->pid);
    pws_workers_give(w);
    pws_spawn_failed(m);
}
