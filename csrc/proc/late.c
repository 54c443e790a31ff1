#include "proc/late.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "proc/reap.h"
#include "proc/sign.h"
#include "proc/spawn.h"

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
hand_of(const pws_master *m, const pws_worker *w)
{
    return &pws_worker_cell(&m->workers, w)->hands[0];
}

/* Whether it still owes us a sign, or its app still runs for the request that is late.
 */
static bool
is_at_it(const pws_master *m, const pws_worker *w)
{
    if (w->late.silent) {
        return !pws_sign_is_answered(&m->workers, w);
    }
    return w->late.request == 0 || pws_hand_is_late(hand_of(m, w), w->late.request);
}

/* `number`: of the request that is in the way, or PWS_HAND_ANY. The number is there
 * before the order. */
static void
give_up(const pws_master *m, pws_worker *w, uint64_t number)
{
    if (!w->late.gives_up) {
        w->late.gives_up = true;
        atomic_store(&hand_of(m, w)->given_up, number);
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
    w->late.silent = false;
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

static void
note_lateness(pws_master *m, pws_worker *w, int64_t now_ms)
{
    const pws_cell *cell = pws_worker_cell(&m->workers, w);
    int64_t timeout_ms = m->settings.timeout_ms;
    char text[PWS_HAND_TEXT + 64];
    pws_hand_view view;

    (void)pws_hand_look(hand_of(m, w), now_ms, &view);
    if (view.overdue != 0 && view.overdue != w->late.request) {
        pws_master_say(m, PWS_LOG_CRITICAL, "WORKER REQUEST TIMEOUT (pid:%d): %s",
                       (int)w->pid, describe(&view, view.overdue, text));
        accuse(m, w, describe(&view, view.overdue, text));
        begin(m, w, view.overdue, now_ms);
    }
    else if (timeout_ms > 0 && pws_cell_busy_ms(cell, now_ms) >= timeout_ms) {
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
    else if (view.slow != w->late.slow) {
        w->late.slow = view.slow;
        pws_master_say(m, PWS_LOG_WARNING, "SLOW REQUEST (pid:%d): %s", (int)w->pid,
                       describe(&view, view.slow, text));
        want_stacks(m, w);
    }
    else {
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
    return w->late.stage == PWS_LATE_TOLD && w->late.request == 0 &&
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

/* The worker sees to it that no other request is interrupted. */
static void
abort_request(const pws_master *m, pws_worker *w, int64_t now_ms)
{
    if (!is_ready(m, w)) {
        pws_worker_blame(&m->workers, w, PWS_CAUSE_LATE, "booting");
    }
    atomic_store(&hand_of(m, w)->aborted, w->late.request);
    send_signal(w, SIGABRT, w->end_ms);
    w->late.stage = PWS_LATE_ABORTED;
    w->late.next_ms = now_ms + ABORT_MS;
}

/* Who is only silent has nothing in hand that is to be given up. */
static void
end_aborted(const pws_master *m, pws_worker *w, int64_t now_ms)
{
    uint64_t number = w->late.request;

    if (number == 0 && !w->late.silent) {
        number = PWS_HAND_ANY;
    }
    if (!serves(m, w)) {
        end_by_kill(w);
        return;
    }
    give_up(m, w, number);
    w->late.stage = PWS_LATE_GIVEN_UP;
    w->late.next_ms = now_ms + ABORT_MS;
}

/* Whether nothing moves there any more: the app runs, and nobody polls in its place. An
 * app that waits for its client polls itself, and the relief comes some time after. */
static bool
is_dead(const pws_cell *cell, const pws_worker *w, int64_t now_ms)
{
    return !atomic_load(&cell->relieved) &&
           (w->late.request == 0 || pws_cell_busy_ms(cell, now_ms) >= ABORT_MS);
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

static void
take_step(pws_master *m, pws_worker *w, int64_t now_ms)
{
    bool due = w->late.next_ms <= now_ms;

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

/* Unborn: asked for, and nobody has said to be it */

static bool
is_unborn(const pws_worker *w)
{
    return w->state != PWS_WORKER_NONE && w->pid == 0;
}

static const pws_worker *
find_process(const pws_master *m, pid_t pid)
{
    for (unsigned i = 0; i < m->workers.top; i++) {
        const pws_worker *w = &m->workers.all[i];

        if (w->state != PWS_WORKER_NONE && w->pid == pid) {
            return w;
        }
    }
    return NULL;
}

/* Its mold reads what it is asked in turn: when it has answered a later question it has
 * done its part, and the time of the worker itself begins. */
static void
check_unborn(pws_master *m, pws_worker *w, int64_t now_ms)
{
    const pws_worker *mold = find_process(m, w->asked_of);

    if (m->settings.timeout_ms <= 0 || mold == NULL) {
        return;
    }
    if (w->claim_ms == PWS_NEVER && mold->sign.heard_ms > w->asked_ms) {
        w->claim_ms = now_ms + m->settings.timeout_ms;
    }
    if (w->claim_ms > now_ms || !pws_cell_revoke(pws_worker_cell(&m->workers, w))) {
        return;
    }
    pws_master_say(m, PWS_LOG_CRITICAL,
                   "WORKER TIMEOUT: one that mold %d has forked "
                   "gives no sign of life",
                   (int)mold->pid);
    pws_workers_give(w);
    pws_spawn_failed(m);
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

        if (is_unborn(w)) {
            check_unborn(m, w, now_ms);
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
            give_up(m, w, PWS_HAND_ANY);
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

        if (is_unborn(w)) {
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
