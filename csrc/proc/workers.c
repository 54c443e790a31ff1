#include "proc/workers.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "proc/mold.h"
#include "proc/shared.h"

#define NUDGE_MS 1000

int
pws_workers_init(pws_workers *workers)
{
    memset(workers, 0, sizeof(*workers));
    workers->board = pws_shared_new(sizeof(*workers->board));
    return workers->board != NULL ? 0 : -1;
}

static void
close_orders(pws_worker *w)
{
    if (w->state != PWS_WORKER_NONE && w->order_fd >= 0) {
        close(w->order_fd);
        w->order_fd = -1;
    }
}

void
pws_workers_forget(pws_workers *workers)
{
    for (unsigned i = 0; i < workers->top; i++) {
        close_orders(&workers->all[i]);
    }
}

void
pws_workers_close(pws_workers *workers)
{
    pws_workers_forget(workers);
    pws_shared_free(workers->board, sizeof(*workers->board));
    workers->board = NULL;
    workers->top = 0;
}

bool
pws_worker_is_wanted(const pws_workers *workers, const pws_worker *w)
{
    const pws_cell *cell = pws_worker_cell(workers, w);

    return w->generation == workers->generation && w->cause != PWS_CAUSE_RECYCLED &&
           !atomic_load_explicit(&cell->leaving, memory_order_relaxed);
}

/* Count one that is alive and was told nothing yet. */
static void
count_one(const pws_workers *workers, const pws_worker *w, pws_worker_count *n)
{
    bool serves = w->state == PWS_WORKER_SERVING && !pws_worker_has_closed(workers, w);

    n->tried += serves && w->generation == workers->generation;
    n->old += w->generation != workers->generation;
    if (!pws_worker_is_wanted(workers, w)) {
        n->spare += serves;
    }
    else if (w->state == PWS_WORKER_BOOTING) {
        n->booting++;
    }
    else {
        n->serving += serves;
    }
}

pws_worker_count
pws_workers_count(const pws_workers *workers)
{
    pws_worker_count n = {0, 0, 0, 0, 0, 0, 0};

    for (unsigned i = 0; i < workers->top; i++) {
        const pws_worker *w = &workers->all[i];

        if (w->state == PWS_WORKER_NONE) {
            continue;
        }
        n.living++;
        n.there += w->kind == PWS_KIND_WORKER;
        if (w->kind == PWS_KIND_WORKER && w->last_signal == 0 &&
            w->state != PWS_WORKER_RETIRING) {
            count_one(workers, w, &n);
        }
    }
    return n;
}

static pws_worker *
find_free(pws_workers *workers)
{
    for (unsigned i = 0; i < PWS_BOARD_CELLS; i++) {
        if (workers->all[i].state == PWS_WORKER_NONE) {
            workers->top = i < workers->top ? workers->top : i + 1;
            return &workers->all[i];
        }
    }
    errno = EAGAIN;
    return NULL;
}

/* ends[0] is the worker's. */
static int
connect_worker(pws_worker_kind kind, int ends[2])
{
    return kind == PWS_KIND_MOLD
               ? pws_mold_connect(ends)
               : socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                            ends);
}

pws_worker *
pws_workers_take(pws_workers *workers, pws_worker_kind kind, int *order_fd)
{
    pws_worker *w = find_free(workers);
    int ends[2];

    if (w == NULL || connect_worker(kind, ends) < 0) {
        return NULL;
    }
    pws_cell_assign(pws_worker_cell(workers, w));
    *w = (pws_worker){.state = PWS_WORKER_BOOTING,
                      .kind = kind,
                      .generation = workers->generation,
                      .order_fd = ends[1],
                      .end_ms = PWS_NEVER,
                      .nudge_ms = PWS_NEVER,
                      .claim_ms = PWS_NEVER};
    *order_fd = ends[0];
    return w;
}

void
pws_workers_give(pws_worker *w)
{
    close_orders(w);
    w->state = PWS_WORKER_NONE;
}

const pws_worker *
pws_workers_mold(const pws_workers *workers)
{
    for (unsigned i = 0; i < workers->top; i++) {
        const pws_worker *w = &workers->all[i];

        if (w->kind == PWS_KIND_MOLD && w->generation == workers->generation &&
            w->last_signal == 0 &&
            (w->state == PWS_WORKER_BOOTING || w->state == PWS_WORKER_SERVING)) {
            return w;
        }
    }
    return NULL;
}

unsigned
pws_workers_at(const pws_workers *workers, unsigned slot, bool serving)
{
    unsigned n = 0;

    for (unsigned i = 0; i < workers->top; i++) {
        const pws_worker *w = &workers->all[i];
        bool here = w->state == PWS_WORKER_SERVING ||
                    (!serving && w->state == PWS_WORKER_BOOTING);

        n += here && w->kind == PWS_KIND_WORKER && w->last_signal == 0 &&
             w->slot == slot && pws_worker_is_wanted(workers, w);
    }
    return n;
}

/* Whether one of another slot is to go before `other`. */
static bool
slot_goes_before(const pws_workers *workers, const pws_worker *w,
                 const pws_worker *other)
{
    bool succeeded, other_succeeded;

    if (pws_worker_is_wanted(workers, w)) {
        return w->slot > other->slot;
    }
    succeeded = pws_workers_at(workers, w->slot, true) > 0;
    other_succeeded = pws_workers_at(workers, other->slot, true) > 0;
    return succeeded != other_succeeded ? succeeded : w->number < other->number;
}

/* Whether `w` is to go before `other`. */
static bool
goes_before(const pws_workers *workers, const pws_worker *w, const pws_worker *other)
{
    if (other != NULL && w->slot != other->slot) {
        return slot_goes_before(workers, w, other);
    }
    if (other == NULL || w->state != other->state) {
        return other == NULL || w->state == PWS_WORKER_SERVING;
    }
    return (w->number < other->number) == (w->state == PWS_WORKER_SERVING);
}

pws_worker *
pws_workers_spare(pws_workers *workers, bool wanted)
{
    pws_worker *found = NULL;

    for (unsigned i = 0; i < workers->top; i++) {
        pws_worker *w = &workers->all[i];
        bool here = w->state == PWS_WORKER_SERVING || w->state == PWS_WORKER_BOOTING;
        if (here && w->kind == PWS_KIND_WORKER && w->last_signal == 0 &&
            pws_worker_is_wanted(workers, w) == wanted &&
            goes_before(workers, w, found)) {
            found = w;
        }
    }
    return found;
}

bool
pws_worker_order(const pws_worker *w, unsigned order)
{
    const char letter = (char)order;
    ssize_t n;

    do {
        n = write(w->order_fd, &letter, 1);
    } while (n < 0 && errno == EINTR);
    return n == 1;
}

void
pws_worker_nudge(pws_worker *w, int64_t now_ms)
{
    if (w->pid > 0) {
        (void)kill(w->pid, SIGTERM);
        w->nudge_ms = now_ms + NUDGE_MS;
    }
}

void
pws_worker_blame(const pws_workers *workers, pws_worker *w, pws_cause cause,
                 const char *reason)
{
    if (w->cause == PWS_CAUSE_NONE) {
        w->cause = cause;
        (void)snprintf(w->reason, sizeof(w->reason), "%s", reason);
        pws_cell_blame(pws_worker_cell(workers, w), cause, reason);
    }
}

void
pws_worker_retire(pws_worker *w, pws_order order, int64_t end_ms)
{
    if (w->state == PWS_WORKER_BOOTING) {
        pws_worker_nudge(w, pws_clock_now_ms());
    }
    (void)pws_worker_order(w, order);
    w->state = PWS_WORKER_RETIRING;
    if (w->last_signal != SIGKILL && end_ms < w->end_ms) {
        w->end_ms = end_ms;
    }
}
