#include "proc/sign.h"

#include "base/clock.h"
#include "engine/poller.h"

/* Halves of the time-out that pass without an answer. */
#define HALVES 2

static int64_t
half(int64_t timeout_ms)
{
    return timeout_ms > 1 ? timeout_ms / 2 : 1;
}

/* The next moment at which all are asked. */
static int64_t
next_tick(int64_t timeout_ms, int64_t now_ms)
{
    return (now_ms / half(timeout_ms) + 1) * half(timeout_ms);
}

/* Whether it reads letters now: one that boots does not, nor one that ends. */
static bool
can_answer(const pws_workers *workers, const pws_worker *w)
{
    return w->state == PWS_WORKER_SERVING && w->last_signal == 0 &&
           !pws_worker_has_closed(workers, w);
}

/* Whether it has done something since, for which it may not have read its letters. That
 * does not matter to one who knows that a sign is owed: threads may run requests beside
 * a loop that stands still. */
static bool
has_moved(const pws_workers *workers, pws_worker *w, int64_t now_ms)
{
    const pws_cell *cell = pws_worker_cell(workers, w);
    uint64_t requests = atomic_load(&cell->requests);
    bool moved = requests != w->sign.requests || pws_cell_busy_ms(cell, now_ms) > 0;

    w->sign.requests = requests;
    return moved && !atomic_load(&cell->owing);
}

/* Returns whether it was sent, or need not be. */
static bool
send_question(const pws_workers *workers, const pws_worker *w)
{
    return atomic_load(&pws_worker_cell(workers, w)->foreign) ||
           pws_worker_order(w, PWS_LETTER_SIGN);
}

static void
ask(const pws_workers *workers, pws_worker *w, int64_t now_ms)
{
    const pws_cell *cell = pws_worker_cell(workers, w);

    w->sign.seen = atomic_load(&cell->signs);
    w->sign.requests = atomic_load(&cell->requests);
    w->sign.in_vain = 0;
    w->sign.asked_ms = now_ms;
    w->sign.sent = send_question(workers, w);
}

/* Half of the time-out has passed since we looked. */
static void
go_on_waiting(const pws_workers *workers, pws_worker *w, bool overslept, int64_t now_ms)
{
    bool late = !w->sign.sent; /* what was written before had not been read either */

    if (late) {
        w->sign.sent = send_question(workers, w);
    }
    if (has_moved(workers, w, now_ms) || overslept || (late && w->sign.sent)) {
        w->sign.in_vain = 0;
    }
    else {
        w->sign.in_vain++;
    }
}

bool
pws_sign_is_answered(const pws_workers *workers, const pws_worker *w)
{
    return atomic_load(&pws_worker_cell(workers, w)->signs) != w->sign.seen;
}

bool
pws_sign_is_missing(const pws_workers *workers, pws_worker *w, int64_t timeout_ms,
                    int64_t now_ms)
{
    pws_sign *sign = &w->sign;
    int64_t due_ms = sign->next_ms;

    if (timeout_ms <= 0 || !can_answer(workers, w)) {
        sign->asked_ms = sign->next_ms = 0;
        sign->in_vain = 0;
        return false;
    }
    if (now_ms < due_ms) {
        return false;
    }
    sign->next_ms = next_tick(timeout_ms, now_ms);
    if (due_ms == 0) {
        return false; /* it has just begun to serve */
    }
    if (sign->asked_ms != 0 && !pws_sign_is_answered(workers, w)) {
        go_on_waiting(workers, w, now_ms - due_ms >= half(timeout_ms), now_ms);
        return sign->in_vain >= HALVES;
    }
    sign->heard_ms = sign->asked_ms;
    ask(workers, w, now_ms);
    return false;
}

int64_t
pws_sign_due_ms(const pws_worker *w)
{
    return w->sign.next_ms != 0 ? w->sign.next_ms : PWS_NEVER;
}
