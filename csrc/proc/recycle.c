#include "proc/recycle.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "proc/spawn.h"

#define MIB ((uint64_t)1024 * 1024)

/* Between two looks at the memory of workers. */
#define LOOK_MS 1000

/* One that has too much memory as soon as this would be replaced all the time. */
#define YOUNG_MS 10000

int64_t
pws_recycle_lifetime_ms(int64_t lifetime_ms, unsigned number)
{
    /* Multiples of the golden ratio are spread evenly, however many there are. */
    int64_t thousandth = (int64_t)((uint64_t)number * 618 % 1000);

    return lifetime_ms + lifetime_ms / 10 * thousandth / 1000;
}

uint64_t
pws_recycle_rss(pid_t pid)
{
    char path[64], text[128];
    long page = sysconf(_SC_PAGESIZE);
    uint64_t pages;
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    do {
        n = read(fd, text, sizeof(text) - 1);
    } while (n < 0 && errno == EINTR);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "%*s %" SCNu64, &pages) != 1 || page <= 0) {
        return 0;
    }
    return pages * (uint64_t)page;
}

static void
recycle(const pws_master *m, pws_worker *w, const char *reason)
{
    pws_worker_blame(&m->workers, w, PWS_CAUSE_RECYCLED, reason);
    pws_master_say(m, PWS_LOG_INFO, "Worker (pid:%d) is recycled: %s", (int)w->pid,
                   w->reason);
}

/* It has asked for a successor. */
static void
look_at_requests(const pws_master *m, pws_worker *w)
{
    const pws_cell *cell = pws_worker_cell(&m->workers, w);
    uint64_t max = m->settings.max_requests;
    char reason[PWS_REASON_MAX];

    if (max > 0 && atomic_load(&cell->leaving) && !atomic_load(&cell->closed) &&
        atomic_load(&cell->requests) >= max) {
        (void)snprintf(reason, sizeof(reason), "max_requests %" PRIu64, max);
        recycle(m, w, reason);
    }
}

static void
look_at_age(const pws_master *m, pws_worker *w, int64_t now_ms)
{
    int64_t max_ms = m->settings.lifetime_ms, age_ms = now_ms - w->served_ms;
    char reason[PWS_REASON_MAX];

    if (max_ms > 0 && age_ms >= pws_recycle_lifetime_ms(max_ms, w->number)) {
        (void)snprintf(reason, sizeof(reason),
                       "%" PRId64 " s old, max_worker_lifetime %g", age_ms / 1000,
                       (double)max_ms / 1000);
        recycle(m, w, reason);
    }
}

static void
look_at_memory(pws_master *m, pws_worker *w, int64_t now_ms)
{
    uint64_t max = m->settings.rss_max, rss = pws_recycle_rss(w->pid);
    char reason[PWS_REASON_MAX];

    if (rss <= max) {
        return;
    }
    (void)snprintf(reason, sizeof(reason), "%" PRIu64 " MiB, max_worker_rss %" PRIu64,
                   (rss + MIB - 1) / MIB, max / MIB);
    recycle(m, w, reason);
    if (now_ms - w->served_ms < YOUNG_MS) {
        pws_spawn_failed(m); /* its successors come with growing pauses */
    }
}

void
pws_recycle(pws_master *m, int64_t now_ms)
{
    bool looks = m->settings.rss_max > 0 && now_ms >= m->look_ms;

    if (m->phase != PWS_MASTER_SERVING) {
        return;
    }
    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];

        if (w->state != PWS_WORKER_SERVING || w->kind != PWS_KIND_WORKER ||
            w->last_signal != 0 || w->cause != PWS_CAUSE_NONE) {
            continue;
        }
        look_at_requests(m, w);
        if (!pws_worker_is_wanted(&m->workers, w)) {
            continue;
        }
        look_at_age(m, w, now_ms);
        if (looks && w->cause == PWS_CAUSE_NONE) {
            look_at_memory(m, w, now_ms);
        }
    }
    if (looks) {
        m->look_ms = now_ms + LOOK_MS;
    }
}

int64_t
pws_recycle_due_ms(const pws_master *m)
{
    int64_t due_ms = m->settings.rss_max > 0 ? m->look_ms : PWS_NEVER;

    if (m->phase != PWS_MASTER_SERVING) {
        return PWS_NEVER;
    }
    for (unsigned i = 0; m->settings.lifetime_ms > 0 && i < m->workers.top; i++) {
        const pws_worker *w = &m->workers.all[i];

        if (w->state == PWS_WORKER_SERVING && w->kind == PWS_KIND_WORKER &&
            w->last_signal == 0 && pws_worker_is_wanted(&m->workers, w)) {
            int64_t end_ms = w->served_ms + pws_recycle_lifetime_ms(
                                                m->settings.lifetime_ms, w->number);
            due_ms = end_ms < due_ms ? end_ms : due_ms;
        }
    }
    return due_ms;
}
