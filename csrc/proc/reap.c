#include "proc/reap.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "engine/lent.h"
#include "proc/signals.h"
#include "proc/spawn.h"
#include "proc/upgrade.h"

static void
log_end(const pws_master *m, const pws_worker *w, int status)
{
    const char *what = w->kind == PWS_KIND_MOLD ? "Mold" : "Worker", *name;
    int signum;

    if (WIFEXITED(status)) {
        if (WEXITSTATUS(status) != 0) {
            pws_master_say(m, PWS_LOG_ERROR, "%s (pid:%d) exited with code %d.", what,
                           (int)w->pid, WEXITSTATUS(status));
        }
        return;
    }
    signum = WTERMSIG(status);
    name = pws_signals_name(signum);
    if (name == NULL) {
        pws_master_say(m, PWS_LOG_WARNING, "%s (pid:%d) was sent signal %d!", what,
                       (int)w->pid, signum);
        return;
    }
    pws_master_say(m,
                   signum == SIGKILL   ? PWS_LOG_ERROR
                   : signum == SIGTERM ? PWS_LOG_INFO
                                       : PWS_LOG_WARNING,
                   "%s (pid:%d) was sent SIG%s!%s", what, (int)w->pid, name,
                   signum == SIGKILL && w->last_signal == 0 ? " Perhaps out of memory?"
                                                            : "");
}

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
    int32_t pid = atomic_load(&pws_worker_cell(&m->workers, w)->pid);

    if (pid > 0) {
        w->pid = pid;
        m->calls->forked(m->context, pid, w->number);
    }
    if (pid < 0) {
        pws_workers_give(w);
        pws_spawn_failed(m);
    }
}

/* A mold has ended: what it has not forked by now it never will. */
static void
forget_unborn(pws_master *m, unsigned generation)
{
    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];

        if (w->state == PWS_WORKER_NONE || w->pid != 0 || w->generation != generation) {
            continue;
        }
        pws_reap_learn_pid(m, w);
        if (w->pid == 0) {
            pws_workers_give(w);
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

static void
bury(pws_master *m, pws_worker *w, int status)
{
    pws_worker_end end = {w->pid, w->number, status, (unsigned)(w - m->workers.all)};
    bool unasked = w->state != PWS_WORKER_RETIRING && m->phase != PWS_MASTER_STOPPING;
    bool served = atomic_load(&pws_worker_cell(&m->workers, w)->ready);
    log_end(m, w, status);
    m->calls->reaped(m->context, &end);
    pws_workers_give(w);
    if (w->kind == PWS_KIND_MOLD) {
        forget_unborn(m, w->generation);
    }
    else if (served && WIFSIGNALED(status)) {
        have_siblings_look(m);
    }
    if (!unasked) {
        return;
    }
    if (!served) {
        note_failed_boot(m, w, status);
    }
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        pws_spawn_failed(m);
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
