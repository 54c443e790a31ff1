#include "proc/late.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "proc/reap.h"
#include "proc/sign.h"
#include "proc/unborn.h"

/* For all stacks that are asked for, so that the last one is not waited for for ever.
 */
#define STACKS_MS 5000

/* After a SIGABRT, for the app to end its request; then as long again for the relief to
 * be there. */
#define ABORT_MS 2000

/* A worker keeps graceful_timeout itself, and closes its connections then. Who has not
 * by then gives up in this time, and is killed. */
#define LAST_MS 1000

static int64_t
earlier(int64_t a_ms, int64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}

static void
send_signal(pws_worker *w, int signum, int64_t end_ms)
{
    (void)kill(w->pid, signum);
    w->last_signal = signum;
    w->end_ms = end_ms;
}

static void
end_by_kill(pws_worker *w)
{
    send_signal(w, SIGKILL, PWS_NEVER);
    w->late.stage = PWS_LATE_OVER;
    w->late.next_ms = PWS_NEVER;
}

/* It has booted, and reads its orders. */
static bool
is_ready(const pws_master *m, const pws_worker *w)
{
    return atomic_load(&pws_worker_cell(&m->workers, w)->ready);
}

/* It has booted all the same? Then it reads its orders. */
static void
nudge(const pws_master *m, pws_worker *w, int64_t now_ms)
{
    w->nudge_ms = PWS_NEVER;
    if (!is_ready(m, w)) {
        pws_worker_nudge(w, now_ms);
    }
}

/* It runs apps: a mold does not, nor who boots. */
static bool
serves(const pws_master *m, const pws_worker *w)
{
    return w->kind == PWS_KIND_WORKER && is_ready(m, w);
}

static pws_hand *
hands_of(const pws_master *m, const pws_worker *w)
{
    return pws_worker_cell(&m->workers, w)->hands;
}

/* Whether its app still runs for a request that it has said to be overdue. */
static bool
is_at_overdue(const pws_hand *hand)
{
    uint64_t number = atomic_load(&hand->heeded_overdue);

    return number != 0 && pws_hand_is_late(hand, number);
}

/* Whether it still owes us a sign, or its app still runs for a request that is late. */
static bool
is_at_it(const pws_master *m, const pws_worker *w)
{
    const pws_hand *hands = hands_of(m, w);

    if (w->late.silent) {
        return !pws_sign_is_answered(&m->workers, w);
    }
    for (unsigned i = 0; i < PWS_BOARD_HANDS && w->late.overdue; i++) {
        if (is_at_overdue(&hands[i])) {
            return true;
        }
    }
    return !w->late.overdue &&
           (w->late.request == 0 || pws_hand_is_late(&hands[0], w->late.request));
}

/* Its hands say before which requests that is for. */
static void
give_up(pws_worker *w)
{
    if (!w->late.gives_up) {
        w->late.gives_up = true;
        (void)pws_worker_order(w, PWS_ORDER_GIVE_UP);
    }
}

/* Stacks */

static void
want_stacks(const pws_master *m, pws_worker *w)
{
    w->late.wants_stacks = atomic_load(&pws_worker_cell(&m->workers, w)->dumps);
}

static void
log_stacks(pws_master *m, pid_t pid, pws_slice stacks)
{
    char *text = malloc(PWS_STACKS_MAX + 64);
    int n;

    while (stacks.len > 0 && stacks.at[stacks.len - 1] == '\n') {
        stacks.len--;
    }
    if (stacks.len == 0 || text == NULL) {
        pws_master_say(m, PWS_LOG_WARNING,
                       "Stacks of process %d: it does not tell them", (int)pid);
    }
    else {
        n = snprintf(text, 64, "Stacks of process %d:\n", (int)pid);
        memcpy(text + n, stacks.at, stacks.len);
        m->calls->record(m->context, PWS_LOG_ERROR,
                         (pws_slice){text, (size_t)n + stacks.len});
    }
    free(text);
}

static void
read_stacks(pws_master *m, int64_t now_ms)
{
    pid_t pid = m->stacks.pid;

    if (!pws_stacks_read(&m->stacks, now_ms)) {
        return;
    }
    log_stacks(m, pid, pws_stacks_take(&m->stacks));
    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];

        if (w->state != PWS_WORKER_NONE && w->pid == pid) {
            w->late.wants_stacks = false;
        }
    }
}

static void
ask_for_stacks(pws_master *m, int64_t now_ms)
{
    for (unsigned i = 0; i < m->workers.top && m->stacks.pid == 0; i++) {
        pws_worker *w = &m->workers.all[i];

        if (w->state != PWS_WORKER_NONE && w->late.wants_stacks &&
            pws_stacks_ask(&m->stacks, w->pid, now_ms) < 0) {
            w->late.wants_stacks = false;
        }
    }
}

/* The steps, in their order */

/* "GET /path, 12.3 s"; one that is over, or waits for its client, has no clock. */
static const char *
describe(const pws_hand_view *view, uint64_t number, char text[PWS_HAND_TEXT + 64])
{
    if (view->number != number) {
        return "a request that has ended since";
    }
    if (view->took_ms == 0) {
        (void)snprintf(text, PWS_HAND_TEXT + 64, "%s, which the app has left since",
                       view->text);
        return text;
    }
    (void)snprintf(text, PWS_HAND_TEXT + 64, "%s, %.1f s", view->text,
                   (double)view->took_ms / 1000);
    return text;
}

/* One that still boots may be forgiven: it is blamed when it is interrupted. */
static void
accuse(const pws_master *m, pws_worker *w, const char *reason)
{
    if (is_ready(m, w)) {
        pws_worker_blame(&m->workers, w, PWS_CAUSE_LATE, reason);
    }
}

/* It is late now: it takes nothing new, and gets a successor. */
static void
begin(pws_master *m, pws_worker *w, uint64_t request, int64_t now_ms)
{
    w->timed_out = true;
    w->late.stage = PWS_LATE_TOLD;
    w->late.silent = w->late.overdue = false;
    w->late.request = request;
    w->late.next_ms = now_ms + STACKS_MS;
    want_stacks(m, w);
    if (is_ready(m, w)) {
        pws_worker_retire(w, PWS_ORDER_RETIRE,
                          now_ms + STACKS_MS + ABORT_MS + m->settings.graceful_ms +
                              LAST_MS);
    }
    if (w->kind == PWS_KIND_MOLD) {
        pws_reap_forget_unborn(m, w->pid);
    }
}

static const char *
name_of(const pws_worker *w)
{
    return w->kind == PWS_KIND_MOLD ? "Mold" : "Worker";
}

/* It waits for something to do, and does not answer. */
static void
note_silence(pws_master *m, pws_worker *w, int64_t now_ms)
{
    if (!pws_sign_is_missing(&m->workers, w, m->settings.timeout_ms, now_ms)) {
        return;
    }
    pws_master_say(m, PWS_LOG_CRITICAL, "WORKER TIMEOUT (pid:%d)", (int)w->pid);
    pws_master_say(m, PWS_LOG_ERROR, "%s (pid:%d) %s", name_of(w), (int)w->pid,
                   atomic_load(&pws_worker_cell(&m->workers, w)->foreign)
                       ? "does not call notify()"
                       : "is idle and gives no sign of life");
    accuse(m, w, "no sign of life");
    begin(m, w, 0, now_ms);
    w->late.silent = true;
}

/* Tell of the requests that the worker has said to be overdue since. Returns whether
 * there were any. */
static bool
note_overdue(pws_master *m, pws_worker *w, int64_t now_ms)
{
    pws_hand *hands = hands_of(m, w);
    char text[PWS_HAND_TEXT + 64];
    pws_hand_view view;
    bool any = false;

    for (unsigned i = 0; i < PWS_BOARD_HANDS; i++) {
        uint64_t number = atomic_load(&hands[i].overdue);

        if (number == 0 || number == atomic_load(&hands[i].heeded_overdue)) {
            continue;
        }
        atomic_store(&hands[i].heeded_overdue, number);
        (void)pws_hand_look(&hands[i], now_ms, &view);
        pws_master_say(m, PWS_LOG_CRITICAL, "WORKER REQUEST TIMEOUT (pid:%d): %s",
                       (int)w->pid, describe(&view, number, text));
        accuse(m, w, describe(&view, number, text));
        any = true;
    }
    return any;
}

static void
note_slow(pws_master *m, pws_worker *w, int64_t now_ms)
{
    pws_hand *hands = hands_of(m, w);
    char text[PWS_HAND_TEXT + 64];
    pws_hand_view view;

    for (unsigned i = 0; i < PWS_BOARD_HANDS; i++) {
        uint64_t number = atomic_load(&hands[i].slow);

        if (number != 0 && number != atomic_load(&hands[i].heeded_slow)) {
            atomic_store(&hands[i].heeded_slow, number);
            (void)pws_hand_look(&hands[i], now_ms, &view);
            pws_master_say(m, PWS_LOG_WARNING, "SLOW REQUEST (pid:%d): %s", (int)w->pid,
                           describe(&view, number, text));
            want_stacks(m, w);
        }
    }
}

/* It has been busy for too long: with the request of the one thread that says so, or
 * with something that is none. */
static void
tell_of_timeout(pws_master *m, pws_worker *w, int64_t now_ms)
{
    char text[PWS_HAND_TEXT + 64];
    pws_hand_view view;

    (void)pws_hand_look(&hands_of(m, w)[0], now_ms, &view);
    pws_master_say(m, PWS_LOG_CRITICAL, "WORKER TIMEOUT (pid:%d)", (int)w->pid);
    if (view.number != 0 && view.took_ms > 0) {
        pws_master_say(m, PWS_LOG_ERROR, "Worker (pid:%d) is at %s", (int)w->pid,
                       describe(&view, view.number, text));
        accuse(m, w, text);
    }
    else if (w->kind == PWS_KIND_MOLD && is_ready(m, w)) {
        pws_master_say(m, PWS_LOG_ERROR, "Mold (pid:%d) does not end forking",
                       (int)w->pid);
        accuse(m, w, "forking");
    }
    accuse(m, w, "busy"); /* with what cannot be seen any more */
    begin(m, w, view.took_ms > 0 ? view.number : 0, now_ms);
}

static void
note_lateness(pws_master *m, pws_worker *w, int64_t now_ms)
{
    const pws_cell *cell = pws_worker_cell(&m->workers, w);
    int64_t timeout_ms = m->settings.timeout_ms;

    if (note_overdue(m, w, now_ms)) {
        begin(m, w, 0, now_ms);
        w->late.overdue = true;
    }
    else if (timeout_ms > 0 && pws_cell_busy_ms(cell, now_ms) >= timeout_ms) {
        tell_of_timeout(m, w, now_ms);
    }
    else {
        note_slow(m, w, now_ms);
        note_silence(m, w, now_ms);
    }
}

/* The request has ended; the one behind it may be late already. */
static void
be_over(pws_master *m, pws_worker *w, int64_t now_ms)
{
    w->late.stage = PWS_LATE_OVER;
    w->late.next_ms = PWS_NEVER;
    w->late.gives_up = false; /* it has read that order, and goes on */
    note_lateness(m, w, now_ms);
}

/* Whether one that took too long to boot serves before it was interrupted. */
static bool
has_booted(const pws_worker *w)
{
    return w->late.stage == PWS_LATE_TOLD && w->late.request == 0 && !w->late.overdue &&
           w->kind == PWS_KIND_WORKER && w->state == PWS_WORKER_SERVING;
}

/* It goes on: a signal now would be for a request that is not late. */
static void
forgive(pws_master *m, pws_worker *w, int64_t now_ms)
{
    pws_master_say(m, PWS_LOG_WARNING, "Worker (pid:%d) has booted all the same",
                   (int)w->pid);
    w->timed_out = false;
    be_over(m, w, now_ms);
}

static void
abort_overdue(pws_hand *hands)
{
    for (unsigned i = 0; i < PWS_BOARD_HANDS; i++) {
        if (is_at_overdue(&hands[i])) {
            atomic_store(&hands[i].aborted, atomic_load(&hands[i].heeded_overdue));
        }
    }
}

/* The worker sees to it that no other request is interrupted. */
static void
abort_request(const pws_master *m, pws_worker *w, int64_t now_ms)
{
    if (!is_ready(m, w)) {
        pws_worker_blame(&m->workers, w, PWS_CAUSE_LATE, "booting");
    }
    if (w->late.overdue) {
        abort_overdue(hands_of(m, w));
    }
    else {
        atomic_store(&hands_of(m, w)[0].aborted, w->late.request);
    }
    send_signal(w, SIGABRT, w->end_ms);
    w->late.stage = PWS_LATE_ABORTED;
    w->late.next_ms = now_ms + ABORT_MS;
}

/* Who is only silent has nothing in hand that is to be given up. */
static void
name_given_up(const pws_master *m, const pws_worker *w)
{
    pws_hand *hands = hands_of(m, w);
    uint64_t number = w->late.request;

    for (unsigned i = 0; i < PWS_BOARD_HANDS && w->late.overdue; i++) {
        if (is_at_overdue(&hands[i])) {
            atomic_store(&hands[i].given_up, atomic_load(&hands[i].heeded_overdue));
        }
    }
    if (number == 0 && !w->late.silent) {
        number = PWS_HAND_ANY;
    }
    if (!w->late.overdue) {
        atomic_store(&hands[0].given_up, number);
    }
}

static void
end_aborted(const pws_master *m, pws_worker *w, int64_t now_ms)
{
    if (!serves(m, w)) {
        end_by_kill(w);
        return;
    }
    if (!w->late.gives_up) {
        name_given_up(m, w);
    }
    give_up(w);
    w->late.stage = PWS_LATE_GIVEN_UP;
    w->late.next_ms = now_ms + ABORT_MS;
}

/* Whether nothing moves there any more: the app runs, and nobody polls in its place. An
 * app that waits for its client polls itself, and the relief comes some time after. */
static bool
is_dead(const pws_cell *cell, const pws_worker *w, int64_t now_ms)
{
    return !atomic_load(&cell->relieved) &&
           ((w->late.request == 0 && !w->late.overdue) ||
            pws_cell_busy_ms(cell, now_ms) >= ABORT_MS);
}

static void
end_given_up(const pws_master *m, pws_worker *w, int64_t now_ms)
{
    const pws_cell *cell = pws_worker_cell(&m->workers, w);

    if (atomic_load(&cell->deserted)) {
        end_by_kill(w);
    }
    else if (w->late.next_ms <= now_ms) {
        if (is_dead(cell, w, now_ms)) {
            end_by_kill(w);
            return;
        }
        w->late.next_ms = now_ms + ABORT_MS;
    }
}

/* Another of its threads is late too, and the others were interrupted already. */
static void
look_for_more(pws_master *m, pws_worker *w, int64_t now_ms)
{
    if (w->late.overdue && note_overdue(m, w, now_ms) &&
        w->late.stage != PWS_LATE_TOLD) {
        w->late.gives_up = false; /* what it was told so far is not about that one */
        abort_request(m, w, now_ms);
    }
}

static void
take_step(pws_master *m, pws_worker *w, int64_t now_ms)
{
    bool due = w->late.next_ms <= now_ms;

    if (pws_worker_is_late(w)) {
        look_for_more(m, w, now_ms);
    }
    switch (w->late.stage) {
    case PWS_LATE_NOT:
    case PWS_LATE_OVER:
        note_lateness(m, w, now_ms);
        return;
    case PWS_LATE_TOLD:
        if (!w->late.wants_stacks || due) {
            abort_request(m, w, now_ms);
        }
        return;
    case PWS_LATE_ABORTED:
        if (due) {
            end_aborted(m, w, now_ms);
        }
        return;
    case PWS_LATE_GIVEN_UP:
        end_given_up(m, w, now_ms);
        return;
    }
}

/* Whether it is there, and not only asked for: its mold is the one that may be late. */
static bool
is_there(const pws_worker *w)
{
    return w->state != PWS_WORKER_NONE && w->pid != 0 && w->last_signal != SIGKILL;
}

/* When the next step is due; who has no stacks to tell is not waited for. */
static int64_t
step_ms(const pws_worker *w, int64_t now_ms)
{
    bool told = w->late.stage == PWS_LATE_TOLD;

    return told && !w->late.wants_stacks ? now_ms : w->late.next_ms;
}

/* When who must end tells its clients so; PWS_NEVER: it has, or need not. */
static int64_t
last_words_ms(const pws_worker *w)
{
    return w->end_ms == PWS_NEVER || w->late.gives_up ? PWS_NEVER : w->end_ms - LAST_MS;
}

void
pws_late_check(pws_master *m)
{
    int64_t now_ms = pws_clock_now_ms();

    read_stacks(m, now_ms);
    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];

        if (pws_unborn_is(w)) {
            pws_unborn_check(m, w, now_ms);
        }
        if (!is_there(w)) {
            continue;
        }
        if (w->nudge_ms <= now_ms) {
            nudge(m, w, now_ms);
        }
        if (w->end_ms <= now_ms) {
            end_by_kill(w);
            continue;
        }
        if (last_words_ms(w) <= now_ms) {
            atomic_store(&hands_of(m, w)[0].given_up, PWS_HAND_ANY);
            give_up(w);
        }
        if (has_booted(w)) {
            forgive(m, w, now_ms);
        }
        else if (pws_worker_is_late(w) && !is_at_it(m, w)) {
            be_over(m, w, now_ms);
        }
        else {
            take_step(m, w, now_ms);
        }
    }
    ask_for_stacks(m, now_ms);
}

int64_t
pws_late_due_ms(const pws_master *m, int64_t now_ms)
{
    int64_t due_ms = pws_stacks_due_ms(&m->stacks);

    for (unsigned i = 0; i < m->workers.top; i++) {
        const pws_worker *w = &m->workers.all[i];
        const pws_cell *cell = pws_worker_cell(&m->workers, w);

        if (pws_unborn_is(w)) {
            due_ms = earlier(due_ms, w->claim_ms);
        }
        if (!is_there(w)) {
            continue;
        }
        due_ms = earlier(due_ms, earlier(w->end_ms, w->nudge_ms));
        due_ms = earlier(due_ms, last_words_ms(w));
        if (pws_worker_is_late(w)) {
            due_ms = earlier(due_ms, step_ms(w, now_ms));
        }
        else if (m->settings.timeout_ms > 0) {
            due_ms = earlier(due_ms, now_ms + m->settings.timeout_ms -
                                         pws_cell_busy_ms(cell, now_ms));
            due_ms = earlier(due_ms, pws_sign_due_ms(w));
        }
    }
    return due_ms;
}
