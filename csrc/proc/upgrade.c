#include "proc/upgrade.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "proc/signals.h"

/* Between two looks at a parent whose end the kernel cannot tell. */
#define LOOK_MS 1000
/* A stop takes no longer than graceful_timeout and this. */
#define STOP_MORE_MS 5000

/* Linux 5.3; the C library may be older. */
static int
open_process(pid_t pid)
{
#ifdef SYS_pidfd_open
    return (int)syscall(SYS_pidfd_open, pid, 0);
#else
    (void)pid;
    errno = ENOSYS;
    return -1;
#endif
}

void
pws_upgrade_succeed(pws_master *m, pid_t pid)
{
    m->kin.predecessor = pid;
    m->kin.predecessor_fd = open_process(pid);
    m->systemd.silent = true;
}

/* Why there can be no new master; NULL: there can. The texts are Gunicorn's. */
static const char *
obstacle(const pws_master *m)
{
    if (m->kin.successor != 0) {
        return "Child exists.";
    }
    if (m->kin.predecessor != 0) {
        return "Parent exists.";
    }
    return m->phase == PWS_MASTER_DRAINING || m->phase == PWS_MASTER_STOPPING
               ? "This master is stopping."
               : NULL;
}

/* The master's things go, above all what its workers take its end from. */
static int
become(pws_master *m)
{
    pws_signals_default();
    pws_workers_forget(&m->workers);
    close(m->news[0]);
    m->news[0] = -1;
    return PWS_IS_SUCCESSOR;
}

int
pws_upgrade_start(pws_master *m)
{
    const char *why_not = obstacle(m);
    sigset_t before;
    pid_t pid;

    m->kin.wanted = false;
    if (why_not != NULL) {
        pws_master_say(m, PWS_LOG_WARNING, "USR2 signal ignored. %s", why_not);
        return 0;
    }
    if (getpid() == 1) {
        pws_master_say(m, PWS_LOG_WARNING,
                       "USR2: this is PID 1, whose end is that of its container");
    }
    pws_signals_hold(&before);
    pid = m->calls->fork(m->context);
    if (pid == 0) {
        return become(m);
    }
    pws_signals_release(&before);
    if (pid < 0) {
        pws_master_say(m, PWS_LOG_ERROR, "USR2: fork: %s", strerror(errno));
        return 0;
    }
    m->kin.successor = pid;
    pws_master_say(m, PWS_LOG_INFO, "Starting a new master (pid:%d)", (int)pid);
    m->calls->successor(m->context, pid);
    return 0;
}

static void
say_how_it_ended(const pws_master *m, int status)
{
    pid_t pid = m->kin.successor;
    bool ends = m->phase == PWS_MASTER_DRAINING || m->phase == PWS_MASTER_STOPPING;
    const char *now = ends ? "" : "; this one goes on";
    const char *name;

    if (WIFEXITED(status)) {
        pws_master_say(m, WEXITSTATUS(status) == 0 ? PWS_LOG_INFO : PWS_LOG_ERROR,
                       "The new master (pid:%d) exited with code %d%s.", (int)pid,
                       WEXITSTATUS(status), now);
        return;
    }
    name = pws_signals_name(WTERMSIG(status));
    pws_master_say(m, PWS_LOG_ERROR, "The new master (pid:%d) was sent %s%s (%d)%s.",
                   (int)pid, name != NULL ? "SIG" : "a signal",
                   name != NULL ? name : "", WTERMSIG(status), now);
}

void
pws_upgrade_bury(pws_master *m, pid_t pid, int status)
{
    if (pid != m->kin.successor || pid == 0) {
        return;
    }
    say_how_it_ended(m, status);
    m->kin.successor = 0;
    m->calls->successor(m->context, 0);
    if (m->phase == PWS_MASTER_DRAINING || m->phase == PWS_MASTER_STOPPING) {
        pws_upgrade_stopping(m); /* of the whole service, as it turns out */
    }
}

static void
look_for_parent(pws_master *m)
{
    if (m->kin.predecessor == 0 || getppid() == m->kin.predecessor) {
        return;
    }
    m->kin.predecessor = 0;
    if (m->kin.predecessor_fd >= 0) {
        close(m->kin.predecessor_fd);
        m->kin.predecessor_fd = -1;
    }
    pws_master_say(m, PWS_LOG_INFO, "Master has been promoted.");
    m->calls->promoted(m->context);
    pws_systemd_take_over(&m->systemd);
}

static void
look_for_child(pws_master *m)
{
    int status = 0;
    pid_t pid;

    if (m->kin.successor == 0) {
        return;
    }
    pid = waitpid(m->kin.successor, &status, WNOHANG);
    if (pid == m->kin.successor || (pid < 0 && errno == ECHILD)) {
        pws_upgrade_bury(m, m->kin.successor, status);
    }
}

void
pws_upgrade_turn(pws_master *m)
{
    look_for_parent(m);
    look_for_child(m);
}

int64_t
pws_upgrade_due_ms(const pws_master *m, int64_t now_ms)
{
    return m->kin.predecessor != 0 && m->kin.predecessor_fd < 0 ? now_ms + LOOK_MS
                                                                : PWS_NEVER;
}

void
pws_upgrade_stopping(pws_master *m)
{
    int64_t drain_ms = m->phase == PWS_MASTER_DRAINING ? m->settings.drain_ms : 0;

    if (m->kin.successor == 0) {
        pws_systemd_stopping(&m->systemd,
                             drain_ms + m->settings.graceful_ms + STOP_MORE_MS);
    }
}

void
pws_upgrade_end(pws_master *m)
{
    look_for_child(m);
    if (m->kin.successor != 0) {
        pws_systemd_hand_over(&m->systemd, m->kin.successor);
    }
}
