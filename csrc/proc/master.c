#include "proc/master.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "proc/balance.h"
#include "proc/late.h"
#include "proc/reap.h"
#include "proc/recycle.h"
#include "proc/signals.h"
#include "proc/slots.h"
#include "proc/spawn.h"
#include "proc/upgrade.h"

/* For the call in hand, once somebody wants a quick end. */
#define QUICK_MS 2000

/* Workers that may die at the start, one after the other, before we give up. */
#define FAILURES_AT_START 5

void
pws_master_say(const pws_master *m, pws_log_level level, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    m->calls->log(m->context, level, text);
}

int
pws_master_init(pws_master *m, const pws_master_calls *calls, void *context)
{
    memset(m, 0, sizeof(*m));
    m->calls = calls;
    m->context = context;
    m->news[0] = m->news[1] = m->order_fd = -1;
    m->adopts = getpid() == 1;
    m->kin.predecessor_fd = -1;
    pws_systemd_init(&m->systemd);
    m->slots = 1;
    m->tend_ms = PWS_NEVER;
    pws_oom_open(&m->oom, "/proc/self/cgroup", "/sys/fs/cgroup");
    if (pipe2(m->news, O_NONBLOCK | O_CLOEXEC) < 0) {
        m->news[0] = m->news[1] = -1;
    }
    if (pws_stacks_open(&m->stacks) < 0 || m->news[0] < 0) {
        return -1;
    }
    return pws_workers_init(&m->workers);
}

static void
close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void
pws_master_close(pws_master *m)
{
    close_fd(&m->news[0]);
    close_fd(&m->news[1]);
    close_fd(&m->order_fd);
    close_fd(&m->kin.predecessor_fd);
    pws_systemd_close(&m->systemd);
    pws_stacks_close(&m->stacks);
    pws_workers_close(&m->workers);
}

void
pws_master_tell(const pws_master *m)
{
    /* A full pipe is fine: the reader wakes anyway. */
    while (write(m->news[1], "", 1) < 0 && errno == EINTR) {
    }
}

int
pws_master_be_worker(pws_master *m, const pws_mold_request *request)
{
    close_fd(&m->order_fd);
    m->order_fd = request->fds[0];
    m->cell = &m->workers.board->cells[request->cell];
    if (!pws_cell_claim(m->cell, request->nonce, getpid())) {
        return -1;
    }
    pws_cell_begin(m->cell); /* its time begins now, not when it was asked for */
    pws_master_tell(m);
    return 0;
}

void
pws_master_decline(pws_master *m, const pws_mold_request *request)
{
    if (request->fd_count > 0) {
        close(request->fds[0]);
    }
    (void)pws_cell_claim(&m->workers.board->cells[request->cell], request->nonce, -1);
    pws_master_tell(m);
}

/* Ending */

static void
retire_all(pws_master *m, pws_order order, int64_t end_ms)
{
    for (unsigned i = 0; i < m->workers.top; i++) {
        if (m->workers.all[i].state != PWS_WORKER_NONE) {
            pws_worker_blame(&m->workers, &m->workers.all[i], PWS_CAUSE_STOP, "");
            pws_worker_retire(&m->workers.all[i], order, end_ms);
        }
    }
}

static void
stop(pws_master *m, bool quick)
{
    bool first = m->phase != PWS_MASTER_STOPPING;

    if (!first && (m->quick || !quick)) {
        return;
    }
    if (!first) {
        pws_master_say(m, PWS_LOG_INFO, "Quick shutdown requested");
    }
    m->phase = PWS_MASTER_STOPPING;
    m->quick = quick;
    if (first) {
        pws_slots_settle(m);
        pws_upgrade_stopping(m);
        m->calls->stopping(m->context);
    }
    if (quick) {
        retire_all(m, PWS_ORDER_QUICK, pws_clock_now_ms() + QUICK_MS);
    }
    else {
        retire_all(m, PWS_ORDER_RETIRE, pws_master_last_moment(m));
    }
}

void
pws_master_halt(pws_master *m, int exit_code)
{
    if (m->exit_code == 0) {
        m->exit_code = exit_code;
        m->reason = exit_code == PWS_APP_FAILED ? "App failed to load."
                                                : "Worker failed to boot.";
    }
    stop(m, false);
}

/* Generations */

static void
begin_generation(pws_master *m, const pws_master_settings *settings)
{
    m->settings = *settings;
    if (settings->preload && !m->adopts) {
        m->adopts = prctl(PR_SET_CHILD_SUBREAPER, 1) == 0;
        if (!m->adopts) {
            pws_master_say(m, PWS_LOG_ERROR, "preload_app: the kernel refuses: %s",
                           strerror(errno));
            m->settings.preload = false; /* each worker loads the app then */
        }
    }
    m->workers.generation = ++m->last_generation;
    m->failures = 0;
    m->spawn_ms = 0;
}

/* Let the workers of the generation that was tried go. */
static void
retire_tried(pws_master *m)
{
    int64_t end_ms = pws_master_last_moment(m);

    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];

        if (w->state != PWS_WORKER_NONE && w->generation == m->workers.generation) {
            pws_worker_blame(&m->workers, w, PWS_CAUSE_GIVEN_UP, "");
            pws_worker_retire(w, PWS_ORDER_RETIRE, end_ms);
        }
    }
}

/* The generation from before is the one in force again. */
static void
go_back(pws_master *m)
{
    unsigned tried = m->settings.workers;

    m->phase = PWS_MASTER_SERVING;
    retire_tried(m);
    m->settings = m->proven;
    m->workers.generation = m->proven_generation;
    m->calls->settled(m->context, false);
    pws_systemd_settled(&m->systemd, false);
    if (tried != m->settings.workers) {
        m->calls->counted(m->context, m->settings.workers);
    }
}

void
pws_master_settle(pws_master *m, bool keep)
{
    if (!keep) {
        pws_master_say(m, PWS_LOG_ERROR,
                       "Reload failed: the workers from before it stay");
        go_back(m);
        return;
    }
    m->phase = PWS_MASTER_SERVING;
    m->rolling = true;
    m->calls->settled(m->context, true);
    pws_systemd_settled(&m->systemd, true);
}

/* Whether some of the first workers serve and others boot: these are proven first, or a
 * reload that fails would end them all. */
static bool
is_half_started(const pws_master *m)
{
    return m->phase == PWS_MASTER_STARTING && pws_workers_count(&m->workers).tried > 0;
}

static void
reload(pws_master *m)
{
    const pws_master_settings before = m->settings; /* a hook may resize */
    pws_master_settings settings = before;

    if (is_half_started(m)) {
        m->asked_reload = true;
        return;
    }
    pws_master_say(m, PWS_LOG_INFO, "Hang up: Master");
    if (m->phase == PWS_MASTER_DRAINING || m->phase == PWS_MASTER_STOPPING) {
        return;
    }
    pws_systemd_reloading(&m->systemd);
    if (m->calls->reload(m->context, &settings) < 0) {
        if (m->phase != PWS_MASTER_TRYING) {
            pws_systemd_settled(&m->systemd, false);
        }
        return;
    }
    if (m->phase == PWS_MASTER_TRYING) {
        retire_tried(m);
    }
    if (m->phase == PWS_MASTER_SERVING) {
        m->phase = PWS_MASTER_TRYING;
        m->proven = before;
        m->proven_generation = m->workers.generation;
    }
    begin_generation(m, &settings);
}

/* Signals of an end */

/* Tell those that serve that clients are to move away. */
static void
announce_end(const pws_master *m)
{
    for (unsigned i = 0; i < m->workers.top; i++) {
        const pws_worker *w = &m->workers.all[i];

        if (w->state == PWS_WORKER_SERVING && w->kind == PWS_KIND_WORKER) {
            (void)pws_worker_order(w, PWS_ORDER_DRAIN);
        }
    }
}

/* SIGTERM: stop, after a while in which load balancers learn of it. Another one means
 * that it should be sooner. */
static void
terminate(pws_master *m)
{
    bool serves = m->phase == PWS_MASTER_SERVING || m->phase == PWS_MASTER_TRYING;

    if (!serves || m->settings.drain_ms == 0) {
        stop(m, m->phase == PWS_MASTER_STOPPING);
        return;
    }
    if (m->phase == PWS_MASTER_TRYING) {
        go_back(m);
    }
    pws_master_say(m, PWS_LOG_INFO, "Draining: connections are accepted for %g s more",
                   (double)m->settings.drain_ms / 1000);
    m->phase = PWS_MASTER_DRAINING;
    pws_upgrade_stopping(m);
    m->drain_end_ms = pws_clock_now_ms() + m->settings.drain_ms;
    announce_end(m);
}

/* The turn of the loop */

static int64_t
earlier(int64_t a_ms, int64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}

/* When there is something to do even if nothing happens. */
static int64_t
next_due_ms(const pws_master *m, int64_t now_ms)
{
    int64_t due_ms = pws_late_due_ms(m, now_ms);

    due_ms = earlier(due_ms, pws_systemd_due_ms(&m->systemd));
    due_ms = earlier(due_ms, pws_upgrade_due_ms(m, now_ms));
    due_ms = earlier(due_ms, m->tend_ms);
    return pws_spawn_missing(m) > 0 ? earlier(due_ms, m->spawn_ms) : due_ms;
}

/* Returns the milliseconds for poll(), rounded up: the clock is a coarse one. */
static int
sleep_ms(const pws_master *m)
{
    int64_t now_ms = pws_clock_now_ms();
    int64_t due_ms = earlier(next_due_ms(m, now_ms), pws_recycle_due_ms(m));

    if (m->phase == PWS_MASTER_DRAINING) {
        due_ms = earlier(due_ms, m->drain_end_ms);
    }
    if (m->asked_reload && m->phase != PWS_MASTER_STARTING) {
        return 0;
    }
    if (due_ms == PWS_NEVER) {
        return -1;
    }
    if (due_ms <= now_ms) {
        return 0;
    }
    return due_ms - now_ms < 3600000 ? (int)(due_ms - now_ms) + 1 : 3600000;
}

static void
swallow_news(const pws_master *m)
{
    char bytes[256];

    while (read(m->news[0], bytes, sizeof(bytes)) > 0) {
    }
}

static void
sleep_until_news(pws_master *m, int signals_fd)
{
    struct pollfd fds[4] = {{.fd = signals_fd, .events = POLLIN},
                            {.fd = m->news[0], .events = POLLIN},
                            {.fd = m->kin.predecessor_fd, .events = POLLIN},
                            {.fd = m->stacks.pipe[0], .events = POLLIN}};
    int timeout_ms = sleep_ms(m);

    m->calls->let_go(m->context);
    (void)poll(fds, 4, timeout_ms);
    m->calls->take_back(m->context);
    pws_signals_swallow();
    swallow_news(m);
}

static void
hear_of_ready_ones(pws_master *m)
{
    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];
        if (w->state != PWS_WORKER_NONE && w->pid == 0) {
            pws_reap_learn_pid(m, w);
        }
        if (w->state == PWS_WORKER_BOOTING &&
            atomic_load_explicit(&pws_worker_cell(&m->workers, w)->ready,
                                 memory_order_acquire)) {
            w->state = PWS_WORKER_SERVING;
            w->served_ms = pws_clock_now_ms();
            if (m->phase == PWS_MASTER_DRAINING && w->kind == PWS_KIND_WORKER) {
                (void)pws_worker_order(w, PWS_ORDER_DRAIN);
            }
            if (m->failures == 0) {
                m->spawn_ms = 0; /* its head start is over */
            }
        }
    }
}

static void
reopen_logs(pws_master *m)
{
    m->calls->reopen(m->context);
    for (unsigned i = 0; i < m->workers.top; i++) {
        if (m->workers.all[i].state != PWS_WORKER_NONE) {
            (void)pws_worker_order(&m->workers.all[i], PWS_ORDER_REOPEN);
        }
    }
}

/* A signal has said so. */
static void
recount(pws_master *m, unsigned workers)
{
    if (workers <= PWS_WORKERS_MAX && workers != m->settings.workers) {
        m->settings.workers = workers;
        m->calls->counted(m->context, workers);
    }
}

/* SIGWINCH: each resized terminal sends it, so it is for daemons only. */
static void
send_all_home(pws_master *m)
{
    if (!m->settings.daemon) {
        pws_master_say(m, PWS_LOG_DEBUG, "SIGWINCH ignored. Not daemonized");
        return;
    }
    pws_master_say(m, PWS_LOG_INFO, "Handling signal: winch");
    if (m->phase == PWS_MASTER_TRYING) {
        go_back(m);
    }
    if (m->phase == PWS_MASTER_SERVING) {
        pws_master_say(m, PWS_LOG_INFO, "graceful stop of workers");
        recount(m, 0);
    }
}

/* Whether the signal has come; it is in the log then. */
static bool
came(pws_master *m, int signum, const char *name)
{
    if (!pws_signals_take(signum)) {
        return false;
    }
    pws_master_say(m, PWS_LOG_INFO, "Handling signal: %s", name);
    return true;
}

static void
heed_signals(pws_master *m)
{
    if (came(m, SIGINT, "int")) {
        stop(m, true);
    }
    if (came(m, SIGQUIT, "quit")) {
        stop(m, true);
    }
    if (came(m, SIGTERM, "term")) {
        terminate(m);
    }
    if (came(m, SIGHUP, "hup")) {
        reload(m);
    }
    if (came(m, SIGTTIN, "ttin")) {
        recount(m, m->settings.workers + 1);
    }
    if (came(m, SIGTTOU, "ttou") && m->settings.workers > 1) {
        recount(m, m->settings.workers - 1);
    }
    if (came(m, SIGUSR1, "usr1")) {
        reopen_logs(m);
    }
    if (came(m, SIGUSR2, "usr2")) {
        m->kin.wanted = true;
    }
    if (pws_signals_take(SIGWINCH)) {
        send_all_home(m);
    }
    (void)pws_signals_take(SIGCHLD); /* we look at each wake-up anyway */
}

static void
heed_hooks(pws_master *m)
{
    if (m->asked_reload) {
        m->asked_reload = false;
        reload(m);
    }
}

static int
run(pws_master *m, int signals_fd)
{
    for (;;) {
        int code = m->kin.wanted ? pws_upgrade_start(m) : 0;

        if (code == 0) {
            code = pws_spawn_all(m);
        }
        if (code < 0) {
            return code;
        }
        if (m->phase == PWS_MASTER_STARTING && m->failures > FAILURES_AT_START) {
            pws_master_halt(m, PWS_BOOT_FAILED);
        }
        if (m->phase == PWS_MASTER_TRYING && m->failures > FAILURES_AT_START) {
            pws_master_settle(m, false);
            continue;
        }
        if (m->phase == PWS_MASTER_STOPPING &&
            pws_workers_count(&m->workers).living == 0) {
            pws_upgrade_end(m);
            return m->exit_code;
        }
        sleep_until_news(m, signals_fd);
        hear_of_ready_ones(m);
        pws_upgrade_turn(m);
        pws_reap(m);
        heed_signals(m);
        heed_hooks(m);
        pws_late_check(m);
        if (m->phase == PWS_MASTER_DRAINING && pws_clock_now_ms() >= m->drain_end_ms) {
            stop(m, false);
        }
        pws_balance(m);
        pws_systemd_turn(&m->systemd, &m->workers,
                         m->phase == PWS_MASTER_STOPPING || m->settings.workers == 0);
        pws_slots_tend(m);
    }
}

void
pws_master_resize(pws_master *m, unsigned workers)
{
    m->settings.workers = workers < PWS_WORKERS_MAX ? workers : PWS_WORKERS_MAX;
    pws_master_tell(m);
}

void
pws_master_ask_reload(pws_master *m)
{
    m->asked_reload = true;
    pws_master_tell(m);
}

void
pws_master_hurry(pws_master *m)
{
    m->spawn_ms = 0;
    pws_master_tell(m);
}

int
pws_master_run(pws_master *m, const pws_master_settings *settings)
{
    int signals_fd = pws_signals_open(), code;

    if (signals_fd < 0) {
        pws_master_say(m, PWS_LOG_CRITICAL, "signals: %s", strerror(errno));
        return 1;
    }
    begin_generation(m, settings);
    code = run(m, signals_fd);
    if (code >= 0) {
        pws_signals_close();
    }
    return code;
}
