#include "proc/balance.h"

#include "proc/recycle.h"

static unsigned
surge(const pws_master *m)
{
    unsigned workers = m->settings.workers > 0 ? m->settings.workers : 1;

    return m->settings.surge > 0 && m->settings.surge < workers ? m->settings.surge
                                                                : workers;
}

unsigned
pws_balance_proof(const pws_master *m)
{
    return m->settings.workers < surge(m) ? m->settings.workers : surge(m);
}

static unsigned
beyond(unsigned many, unsigned few)
{
    return many > few ? many - few : 0;
}

unsigned
pws_balance_missing(const pws_master *m)
{
    pws_worker_count n = pws_workers_count(&m->workers);
    unsigned wanted = m->settings.workers, base = wanted;
    unsigned missing = beyond(wanted, n.booting + n.serving);
    unsigned gaps = beyond(wanted, n.booting + n.serving + n.spare), room;

    if (m->phase == PWS_MASTER_DRAINING) {
        return gaps; /* those that leave may serve to the end */
    }
    if (m->phase != PWS_MASTER_SERVING && n.old > base) {
        base = n.old; /* they stay until the new ones are proven */
    }
    /* A start waits for all of them, so they must fit. */
    room = m->phase == PWS_MASTER_STARTING ? wanted : surge(m);
    room = beyond(base + room, n.there);
    room = room > gaps ? room : gaps;
    return missing < room ? missing : room;
}

/* Of those that accept no more. */
static void
take_note(pws_master *m)
{
    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];

        if (w->state == PWS_WORKER_NONE || w->kind != PWS_KIND_WORKER) {
            continue;
        }
        if (w->state == PWS_WORKER_SERVING && w->last_signal == 0 &&
            pws_worker_has_closed(&m->workers, w)) {
            pws_worker_blame(&m->workers, w, PWS_CAUSE_OWN, "");
            pws_worker_retire(w, PWS_ORDER_RETIRE, pws_master_last_moment(m));
        }
    }
}

/* Molds of generations that have passed. */
static void
retire_old_molds(pws_master *m, int64_t end_ms)
{
    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];

        if (w->kind == PWS_KIND_MOLD && w->generation != m->workers.generation &&
            (w->state == PWS_WORKER_BOOTING || w->state == PWS_WORKER_SERVING)) {
            pws_worker_blame(&m->workers, w, PWS_CAUSE_RELOAD, "");
            pws_worker_retire(w, PWS_ORDER_RETIRE, end_ms);
        }
    }
}

static void
retire_one(pws_master *m, bool wanted, int64_t end_ms)
{
    pws_worker *w = pws_workers_spare(&m->workers, wanted);

    if (w == NULL) {
        return;
    }
    if (w->generation != m->workers.generation) {
        pws_worker_blame(&m->workers, w, PWS_CAUSE_RELOAD, "");
    }
    pws_worker_blame(&m->workers, w, wanted ? PWS_CAUSE_SURPLUS : PWS_CAUSE_OWN, "");
    pws_worker_retire(w, PWS_ORDER_RETIRE, end_ms);
}

/* Whether all that was begun is done. */
static void
look_for_milestones(pws_master *m, const pws_worker_count *n)
{
    unsigned wanted = m->settings.workers;

    if (m->phase == PWS_MASTER_STARTING && n->tried >= wanted) {
        m->phase = PWS_MASTER_SERVING;
        m->calls->started(m->context);
        pws_systemd_ready(&m->systemd);
    }
    if (m->phase == PWS_MASTER_TRYING && n->tried >= pws_balance_proof(m)) {
        pws_master_settle(m, true);
    }
    if (m->phase == PWS_MASTER_SERVING && m->rolling && n->tried >= wanted) {
        m->rolling = false;
        pws_master_say(m, PWS_LOG_INFO, "Workers are ready: %u", wanted);
    }
    if (m->short_said && n->serving >= wanted) {
        m->short_said = false;
        pws_master_say(m, PWS_LOG_INFO, "%u of %u workers serve again", n->serving,
                       wanted);
    }
}

void
pws_balance(pws_master *m)
{
    int64_t end_ms = pws_master_last_moment(m);
    pws_worker_count n;
    unsigned wanted;

    atomic_store(&m->workers.board->wanted, m->settings.workers);
    take_note(m);
    pws_recycle(m, pws_clock_now_ms());
    n = pws_workers_count(&m->workers);
    look_for_milestones(m, &n);
    if (m->phase != PWS_MASTER_SERVING) {
        return;
    }
    wanted = m->settings.workers; /* a hook may have changed it */
    retire_old_molds(m, end_ms);
    for (; n.spare > 0 && n.spare + n.serving > wanted; n.spare--) {
        retire_one(m, false, end_ms);
    }
    for (unsigned there = n.booting + n.serving; there > wanted; there--) {
        retire_one(m, true, end_ms);
    }
}
