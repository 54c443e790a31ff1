#include "proc/spawn.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "proc/balance.h"
#include "proc/signals.h"
#include "proc/slots.h"

/* Between workers that end as soon as they have begun: doubled each time. */
#define PAUSE_MS 100
#define PAUSE_MAX_MS 10000

/* The longest after a worker that could serve: clients wait for its successor. */
#define PAUSE_LOST_MS 500

/* Workers that a mold is asked for and has not forked yet: more might not fit into its
 * socket. */
#define ASKED_MAX 64

/* Of the first workers, one a CPU, unless one is ready before. */
#define HEAD_START_MS 200

/* Note it, and let the pause before the next one grow up to `most_ms`. */
static void
grow_pause(pws_master *m, int64_t most_ms)
{
    int64_t now_ms = pws_clock_now_ms(), pause_ms = 0;

    if (now_ms - m->failed_ms > 2 * PAUSE_MAX_MS) {
        m->failures = 0;
    }
    m->failed_ms = now_ms;
    if (m->failures > 0) {
        pause_ms =
            m->failures < 8 ? (int64_t)PAUSE_MS << (m->failures - 1) : PAUSE_MAX_MS;
        pause_ms = pause_ms < most_ms ? pause_ms : most_ms;
    }
    m->failures++;
    m->spawn_ms = now_ms + pause_ms;
    m->pause_untold = pause_ms > 0;
}

void
pws_spawn_failed(pws_master *m)
{
    grow_pause(m, PAUSE_MAX_MS);
}

void
pws_spawn_lost(pws_master *m)
{
    grow_pause(m, PAUSE_LOST_MS);
}

/* The master's things go. Returns what pws_master_run does in such a process. */
static int
become(pws_master *m, const pws_worker *w, int order_fd)
{
    pws_signals_close();
    m->cell = pws_worker_cell(&m->workers, w);
    m->order_fd = order_fd;
    m->slot = w->slot;
    pws_workers_forget(&m->workers);
    close(m->news[0]);
    m->news[0] = -1;
    pws_stacks_forget(&m->stacks);
    return w->kind == PWS_KIND_MOLD ? PWS_IS_MOLD : PWS_IS_WORKER;
}

/* A place for one more; NULL when there is none, which was noted. */
static pws_worker *
take_place(pws_master *m, pws_worker_kind kind, int *order_fd)
{
    unsigned slot = pws_slots_choose(m);
    pws_worker *w = pws_workers_take(&m->workers, kind, order_fd);

    if (w == NULL) {
        pws_master_say(m, PWS_LOG_ERROR, "no place for a worker: %s", strerror(errno));
        pws_spawn_failed(m);
        return NULL;
    }
    if (kind == PWS_KIND_WORKER) {
        w->number = ++m->last_number;
        pws_slots_assign(w, slot);
    }
    return w;
}

static void
give_back(pws_master *m, pws_worker *w)
{
    pws_workers_give(w);
    pws_spawn_failed(m);
}

/* Returns like fork(), with all signals held back in the child. */
static pid_t
fork_quietly(pws_master *m)
{
    sigset_t before;
    pid_t pid;

    pws_signals_hold(&before);
    pid = m->calls->fork(m->context);
    if (pid == 0) {
        m->before = before;
        return 0;
    }
    pws_signals_release(&before);
    if (pid < 0) {
        pws_master_say(m, PWS_LOG_ERROR, "fork: %s", strerror(errno));
    }
    return pid;
}

/* Fork a worker or a mold here. Returns 0, or in it what pws_master_run returns. */
static int
fork_one(pws_master *m, pws_worker_kind kind)
{
    bool is_worker = kind == PWS_KIND_WORKER;
    int order_fd = -1;
    pws_worker *w = take_place(m, kind, &order_fd);
    pid_t pid = -1;

    if (w == NULL) {
        return 0;
    }
    if (!is_worker || m->calls->before_fork(m->context, w->number) == 0) {
        pid = fork_quietly(m);
    }
    if (pid == 0) {
        return become(m, w, order_fd);
    }
    close(order_fd);
    if (pid < 0) {
        give_back(m, w);
        return 0;
    }
    w->pid = pid;
    if (is_worker) {
        m->calls->forked(m->context, pid, w->number);
    }
    return 0;
}

/* Let the mold fork one: what came of it is in the cell later. */
static void
ask_mold(pws_master *m, const pws_worker *mold)
{
    pws_mold_request request;
    pws_worker *w = take_place(m, PWS_KIND_WORKER, &request.fds[0]);

    if (w == NULL) {
        return;
    }
    request.cell = (uint32_t)(w - m->workers.all);
    request.nonce = pws_cell_nonce(pws_worker_cell(&m->workers, w));
    request.number = w->number;
    w->asked_of = mold->pid;
    w->asked_ms = pws_clock_now_ms();
    request.fd_count =
        1 + m->calls->sockets(m->context, w->slot, false, request.fds + 1);
    if (pws_mold_ask(mold->order_fd, &request) < 0) {
        pws_master_say(m, PWS_LOG_ERROR, "asking for a worker: %s", strerror(errno));
        give_back(m, w);
    }
    close(request.fds[0]);
}

/* Returns 0, or in a new process what pws_master_run returns. */
static int
spawn(pws_master *m)
{
    const pws_worker *mold;

    if (!m->settings.preload) {
        return fork_one(m, PWS_KIND_WORKER);
    }
    mold = pws_workers_mold(&m->workers);
    if (mold == NULL) {
        return fork_one(m, PWS_KIND_MOLD);
    }
    ask_mold(m, mold);
    return 0;
}

/* Workers that the mold is to fork. */
static unsigned
asked(const pws_master *m)
{
    unsigned n = 0;

    for (unsigned i = 0; i < m->workers.top; i++) {
        const pws_worker *w = &m->workers.all[i];

        n += w->state != PWS_WORKER_NONE && w->pid == 0 &&
             w->generation == m->workers.generation;
    }
    return n;
}

/* Whether all that can be done now is to wait for the mold. */
static bool
waits_for_mold(const pws_master *m)
{
    const pws_worker *mold;

    if (!m->settings.preload) {
        return false;
    }
    mold = pws_workers_mold(&m->workers);
    return mold != NULL && (mold->state == PWS_WORKER_BOOTING || asked(m) >= ASKED_MAX);
}

unsigned
pws_spawn_missing(const pws_master *m)
{
    pws_worker_count n = pws_workers_count(&m->workers);

    if (m->phase == PWS_MASTER_STOPPING || n.living >= PWS_BOARD_CELLS ||
        waits_for_mold(m)) {
        return 0;
    }
    return pws_balance_missing(m);
}

/* Say, once a pause, that somebody is missing and when the next try is. */
static void
tell_pause(pws_master *m)
{
    pws_worker_count n = pws_workers_count(&m->workers);
    int64_t left_ms = m->spawn_ms - pws_clock_now_ms();

    if (!m->pause_untold || left_ms <= 0 || m->phase == PWS_MASTER_STARTING) {
        return;
    }
    m->pause_untold = false;
    m->short_said = true;
    pws_master_say(m, PWS_LOG_WARNING, "%u of %u workers serve; the next try in %.1f s",
                   n.serving + n.spare, m->settings.workers, (double)left_ms / 1000);
}

static unsigned
cpu_count(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

/* Whether the others are to wait a moment at the start: when all load the app at the
 * same time, the first answer comes as late as the last worker. */
static bool
give_head_start(pws_master *m)
{
    pws_worker_count n = pws_workers_count(&m->workers);

    if (m->head_start || m->phase != PWS_MASTER_STARTING || m->settings.preload ||
        n.serving > 0 || n.booting < cpu_count()) {
        return false;
    }
    m->head_start = true;
    m->spawn_ms = pws_clock_now_ms() + HEAD_START_MS;
    return true;
}

int
pws_spawn_all(pws_master *m)
{
    while (pws_spawn_missing(m) > 0 && pws_clock_now_ms() >= m->spawn_ms) {
        int code;

        if (give_head_start(m)) {
            return 0;
        }
        if (pws_workers_count(&m->workers).booting == 0) {
            atomic_store(&m->workers.board->complained, false); /* a new try */
        }
        code = spawn(m);

        if (code < 0) {
            return code;
        }
    }
    if (pws_spawn_missing(m) > 0) {
        tell_pause(m);
    }
    return 0;
}
