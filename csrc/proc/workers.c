#include "proc/workers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "proc/shared.h"

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

static bool
is_wanted(const pws_workers *workers, const pws_worker *w)
{
    const pws_cell *cell = pws_worker_cell(workers, w);

    return w->generation == workers->generation &&
           !atomic_load_explicit(&cell->leaving, memory_order_relaxed);
}

pws_worker_count
pws_workers_count(const pws_workers *workers)
{
    pws_worker_count n = {0, 0, 0, 0};

    for (unsigned i = 0; i < workers->top; i++) {
        const pws_worker *w = &workers->all[i];

        if (w->state == PWS_WORKER_NONE) {
            continue;
        }
        n.living++;
        if (w->last_signal != 0 || w->state == PWS_WORKER_RETIRING) {
            continue;
        }
        if (!is_wanted(workers, w)) {
            n.spare += w->state == PWS_WORKER_SERVING;
        }
        else if (w->state == PWS_WORKER_BOOTING) {
            n.booting++;
        }
        else {
            n.serving++;
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

pws_worker *
pws_workers_take(pws_workers *workers, int *order_fd)
{
    pws_worker *w = find_free(workers);
    int ends[2];

    if (w == NULL || pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0) {
        return NULL;
    }
    pws_cell_assign(pws_worker_cell(workers, w));
    *w = (pws_worker){.state = PWS_WORKER_BOOTING,
                      .generation = workers->generation,
                      .order_fd = ends[1],
                      .end_ms = PWS_NEVER};
    *order_fd = ends[0];
    return w;
}

void
pws_workers_give(pws_worker *w)
{
    close_orders(w);
    w->state = PWS_WORKER_NONE;
}

/* Whether `w` is to go before `other`. */
static bool
goes_before(const pws_worker *w, const pws_worker *other)
{
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

        if (here && w->last_signal == 0 && is_wanted(workers, w) == wanted &&
            goes_before(w, found)) {
            found = w;
        }
    }
    return found;
}

void
pws_worker_order(const pws_worker *w, pws_order order)
{
    const char letter = (char)order;

    while (write(w->order_fd, &letter, 1) < 0 && errno == EINTR) {
    }
}

void
pws_worker_retire(pws_worker *w, pws_order order, int64_t end_ms)
{
    if (w->state == PWS_WORKER_BOOTING) {
        (void)kill(w->pid, SIGTERM); /* it does not read orders yet */
    }
    else {
        pws_worker_order(w, order);
    }
    w->state = PWS_WORKER_RETIRING;
    if (w->last_signal == 0 && end_ms < w->end_ms) {
        w->end_ms = end_ms;
    }
}
