#include "proc/spawn.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "proc/signals.h"

/* Between workers that end as soon as they have begun: doubled each time. */
#define PAUSE_MS 100
#define PAUSE_MAX_MS 10000

void
pws_spawn_failed(pws_master *m)
{
    int64_t now_ms = pws_clock_now_ms(), pause_ms = 0;

    if (now_ms - m->failed_ms > 2 * PAUSE_MAX_MS) {
        m->failures = 0;
    }
    m->failed_ms = now_ms;
    if (m->failures > 0) {
        pause_ms =
            m->failures < 8 ? (int64_t)PAUSE_MS << (m->failures - 1) : PAUSE_MAX_MS;
    }
    m->failures++;
    m->spawn_ms = now_ms + pause_ms;
}

/* The master's things go; returns PWS_IS_WORKER. */
static int
become_worker(pws_master *m, const pws_worker *w, int order_fd)
{
    pws_signals_close();
    m->cell = pws_worker_cell(&m->workers, w);
    m->order_fd = order_fd;
    pws_workers_forget(&m->workers);
    close(m->news[0]);
    m->news[0] = -1;
    return PWS_IS_WORKER;
}

/* Returns 0, or PWS_IS_WORKER in the worker. */
static int
spawn(pws_master *m)
{
    int order_fd = -1;
    pws_worker *w = pws_workers_take(&m->workers, &order_fd);
    sigset_t before;
    pid_t pid = -1;

    if (w == NULL) {
        pws_master_say(m, PWS_LOG_ERROR, "no place for a worker: %s", strerror(errno));
        pws_spawn_failed(m);
        return 0;
    }
    w->number = ++m->last_number;
    if (m->calls->before_fork(m->context, w->number) == 0) {
        pws_signals_hold(&before);
        pid = m->calls->fork(m->context);
        if (pid == 0) {
            m->before = before;
            return become_worker(m, w, order_fd);
        }
        pws_signals_release(&before);
        if (pid < 0) {
            pws_master_say(m, PWS_LOG_ERROR, "fork: %s", strerror(errno));
        }
    }
    close(order_fd);
    if (pid < 0) {
        pws_workers_give(w);
        pws_spawn_failed(m);
        return 0;
    }
    w->pid = pid;
    m->calls->forked(m->context, pid, w->number);
    return 0;
}

unsigned
pws_spawn_missing(const pws_master *m)
{
    pws_worker_count n = pws_workers_count(&m->workers);
    unsigned there = n.booting + n.serving;

    if (m->phase == PWS_MASTER_STOPPING || there >= m->settings.workers ||
        n.living >= PWS_BOARD_CELLS) {
        return 0;
    }
    return m->settings.workers - there;
}

int
pws_spawn_all(pws_master *m)
{
    while (pws_spawn_missing(m) > 0 && pws_clock_now_ms() >= m->spawn_ms) {
        if (spawn(m) == PWS_IS_WORKER) {
            return PWS_IS_WORKER;
        }
    }
    return 0;
}
