#include "proc/reap.h"

#include <errno.h>
#include <sys/wait.h>

#include "engine/lent.h"
#include "proc/cause.h"
#include "proc/spawn.h"
#include "proc/upgrade.h"

/* A worker has ended before it could serve, and nobody had asked it to. */
static void
note_failed_boot(pws_master *m, const pws_worker *w, int status)
{
    bool says_why =
        WIFEXITED(status) && WEXITSTATUS(status) != 0 && w->last_signal == 0;

    if (m->phase == PWS_MASTER_TRYING && w->generation == m->workers.generation) {
        pws_master_settle(m, false);
        return;
    }
    pws_spawn_failed(m);
    if (m->phase == PWS_MASTER_STARTING && says_why &&
        w->generation == m->workers.generation) {
        pws_master_halt(m, WEXITSTATUS(status) == PWS_APP_FAILED ? PWS_APP_FAILED
                                                                 : PWS_BOOT_FAILED);
    }
}

void
pws_reap_learn_pid(pws_master *m, pws_worker *w)
{
    int32_t pid = pws_cell_claimed(pws_worker_cell(&m->workers, w));

    if (pid > 0) {
        w->pid = pid;
        m->calls->forked(m->context, pid, w->number);
    }
    if (pid < 0) {
        pws_workers_give(w);
        pws_spawn_failed(m);
    }
}

void
pws_reap_forget_unborn(pws_master *m, pid_t mold)
{
    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];

        if (w->state == PWS_WORKER_NONE || w->pid != 0 || w->asked_of != mold) {
            continue;
        }
        if (pws_cell_revoke(pws_worker_cell(&m->workers, w))) {
            pws_workers_give(w);
        }
        else {
            pws_reap_learn_pid(m, w);
        }
    }
}

/* The kernel may have woken the dead one for a connection that it did not accept. */
static void
have_siblings_look(const pws_master *m)
{
    for (unsigned i = 0; i < m->workers.top; i++) {
        const pws_worker *w = &m->workers.all[i];

        if (w->state == PWS_WORKER_SERVING && w->kind == PWS_KIND_WORKER) {
            (void)pws_worker_order(w, PWS_LETTER_LOOK);
        }
    }
}

/* Whether somebody here has told it to end. */
static bool
was_told(const pws_master *m, const pws_worker *w)
{
    return m->phase == PWS_MASTER_STOPPING ||
           (w->state == PWS_WORKER_RETIRING && w->cause != PWS_CAUSE_OWN);
}

static void
bury(pws_master *m, pws_worker *w, int status)
{
    char words[PWS_CAUSE_ROOM];
    pws_worker_end end = {.pid = w->pid,
                          .number = w->number,
                          .status = status,
                          .place = (unsigned)(w - m->workers.all),
                          .timed_out = w->timed_out,
                          .words = words};
    bool told = was_told(m, w);
    bool closed = pws_worker_has_closed(&m->workers, w);
    bool served = atomic_load(&pws_worker_cell(&m->workers, w)->ready);

    if (closed) {
        pws_worker_blame(&m->workers, w, PWS_CAUSE_OWN, "");
    }
    pws_cause_words(m, w, status, words);
    pws_cause_log(m, w, status, words);
    m->calls->reaped(m->context, &end);
    pws_workers_give(w);
    if (w->kind == PWS_KIND_MOLD) {
        pws_reap_forget_unborn(m, w->pid);
    }
    else if (served && WIFSIGNALED(status)) {
        have_siblings_look(m);
    }
    if (told) {
        return;
    }
    if (!served) {
        note_failed_boot(m, w, status);
    }
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        pws_spawn_lost(m);
    }
}

/* Orphans that have become ours: as PID 1 nobody else reaps them. */
static void
bury_orphans(pws_master *m)
{
    pid_t pid;
    int status;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        pws_upgrade_bury(m, pid, status);
        for (unsigned i = 0; i < m->workers.top; i++) {
            pws_worker *w = &m->workers.all[i];

            if (w->state != PWS_WORKER_NONE && w->pid == pid) {
                bury(m, w, status);
                break;
            }
        }
    }
}

void
pws_reap(pws_master *m)
{
    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];
        int status = 0;
        pid_t pid;

        if (w->state != PWS_WORKER_NONE && w->pid == 0) {
            pws_reap_learn_pid(m, w); /* before it is taken for an orphan */
        }
        if (w->state == PWS_WORKER_NONE || w->pid == 0) {
            continue;
        }
        pid = waitpid(w->pid, &status, WNOHANG);
        if (pid == w->pid) {
            bury(m, w, status);
        }
        else if (pid < 0 && errno == ECHILD) {
            bury(m, w, 0); /* somebody else's waitpid took it */
        }
    }
    if (m->adopts) {
        bury_orphans(m);
    }
}
