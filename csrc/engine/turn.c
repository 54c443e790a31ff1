#include "engine/turn.h"

#include "base/log.h"
#include "engine/accept.h"
#include "engine/engine_queue.h"
#include "engine/give_up.h"
#include "engine/lent.h"

void
pws_turn_update_clock(pws_engine *e)
{
    pws_clock_read(&e->clock);
    if (e->clock.wall_s != e->date_s) {
        e->date_s = e->clock.wall_s;
        pws_http_date(e->date, e->date_s);
    }
}

void
pws_turn_free_dead(pws_engine *e)
{
    while (e->dead != NULL) {
        pws_conn *c = e->dead;

        e->dead = c->next;
        pws_pool_give(&e->conns, c);
    }
}

void
pws_turn_take_hand_backs(pws_engine *e)
{
    pws_exchange *x;

    if (atomic_load_explicit(&e->handed_back, memory_order_relaxed) == NULL) {
        return;
    }
    x = atomic_exchange_explicit(&e->handed_back, NULL, memory_order_acquire);
    while (x != NULL) {
        pws_exchange *next = x->next;

        pws_conn_take_back(e, x->conn);
        x = next;
    }
}

static void
run_timers(pws_engine *e)
{
    pws_timer *timer;

    while ((timer = pws_timers_expired(&e->timers, e->clock.now_ms)) != NULL) {
        pws_conn_expired(e, (pws_conn *)(void *)timer);
    }
}

void
pws_turn_resume_ready(pws_engine *e)
{
    pws_conn *first = e->ready_first;

    e->ready_first = e->ready_last = NULL;
    pws_engine_resume_all(e, first);
}

/* Listeners first: a connection must not wait behind an app of this batch while a
 * sibling is idle. */
static void
accept_batch(pws_engine *e)
{
    for (int i = 0; i < e->poller.count; i++) {
        uint64_t key = e->poller.events[i].key;

        if ((key & PWS_LISTENER_KEY) != 0) {
            pws_accept_event(e, key);
        }
    }
    pws_accept_looked(e, (uint32_t)e->poller.count);
}

/* Its connection may be gone. */
static void
run_event(pws_engine *e, const pws_event *event)
{
    uint32_t slot = (uint32_t)event->key;
    const pws_slot *s = slot < e->slot_count ? &e->slots[slot] : NULL;

    if (s != NULL && s->conn != NULL && s->generation == (uint32_t)(event->key >> 32)) {
        pws_conn_event(e, s->conn, event->what);
    }
}

static void
run_batch(pws_engine *e, uint32_t budget)
{
    while (e->at < e->poller.count && e->queued < budget) {
        const pws_event *event = &e->poller.events[e->at++];

        if ((event->key & PWS_LISTENER_KEY) == 0) {
            run_event(e, event);
        }
    }
}

/* Work of the engine itself. */
static bool
has_chores(const pws_engine *e)
{
    return e->ready_first != NULL || e->at < e->poller.count ||
           atomic_load_explicit(&e->handed_back, memory_order_relaxed) != NULL;
}

static int
sooner(int a_ms, int b_ms)
{
    return b_ms < 0 || (a_ms >= 0 && a_ms < b_ms) ? a_ms : b_ms;
}

/* Milliseconds until something is due; -1: never. */
static int
next_due_ms(const pws_engine *e)
{
    int wait_ms = pws_timers_wait_ms(&e->timers, e->clock.now_ms);

    if (e->queue_first != NULL && e->config->queue_timeout_ms > 0) {
        wait_ms = sooner(PWS_TICK_MS, wait_ms);
    }
    if (e->accept_again_ms != PWS_NEVER && !e->suspended) {
        int64_t pause_ms = e->accept_again_ms - e->clock.now_ms;

        pause_ms = pause_ms > 0 ? pause_ms : 0;
        if (wait_ms < 0 || pause_ms < wait_ms) {
            wait_ms = (int)pause_ms;
        }
    }
    return wait_ms;
}

/* Lines of the access log do not wait for more than a second, nor for the next event;
 * neither does what the error log has left out. */
static int
tick_logs(pws_engine *e, int timeout_ms)
{
    timeout_ms = sooner(pws_log_tick(e->clock.now_ms), timeout_ms);
    if (e->config->access_log == NULL) {
        return timeout_ms;
    }
    return sooner(pws_access_log_tick(e->config->access_log, e->clock.now_ms),
                  timeout_ms);
}

/* Send what is held, which may free places. Returns whether that was the last thing a
 * drain has waited for. */
static bool
send_last(pws_engine *e)
{
    if (e->hold.first == NULL) {
        return false;
    }
    pws_hold_send(e);
    pws_accept_again(e);
    return pws_engine_is_drained(e);
}

/* The budget of a turn in which no app can be called: all requests are queued. */
#define NO_APP UINT32_MAX

/* Who polls because no app can be called keeps the lease: see relief.h. */
static int
wait_for_events(pws_engine *e, uint32_t budget, int timeout_ms)
{
    int n;

    if (!e->lends_waits || timeout_ms == 0 || budget == NO_APP) {
        return pws_poller_wait(&e->poller, timeout_ms);
    }
    e->waiting = true;
    e->waits_until_ms = timeout_ms < 0 ? PWS_NEVER : e->clock.now_ms + timeout_ms;
    n = pws_poller_wait_lent(&e->poller, timeout_ms, &e->lease);
    e->waiting = false;
    return n;
}

/* A new batch, waited for when there is nothing else to do. */
static int
fetch_batch(pws_engine *e, uint32_t budget, int timeout_ms)
{
    bool last = send_last(e);
    int due_ms;

    pws_turn_free_dead(e);
    e->at = 0;
    e->poller.count = 0;
    if (last || has_chores(e) || (e->queue_first != NULL && budget != NO_APP)) {
        timeout_ms = 0;
    }
    else if (timeout_ms != 0) {
        due_ms = next_due_ms(e);
        if (due_ms >= 0 && (timeout_ms < 0 || due_ms < timeout_ms)) {
            timeout_ms = due_ms;
        }
    }
    timeout_ms = tick_logs(e, timeout_ms);
    if (wait_for_events(e, budget, timeout_ms) < 0) {
        return -1;
    }
    pws_turn_update_clock(e);
    pws_hold_begin_batch(&e->hold);
    pws_lent_heed(e);
    accept_batch(e);
    run_timers(e);
    pws_turn_resume_ready(e);
    return 0;
}

int
pws_engine_arm(pws_engine *e)
{
    return pws_poller_arm(&e->poller, e->clock.now_ms,
                          sooner(pws_park_wait_ms(e), next_due_ms(e)));
}

/* What must come before a wait: it may queue requests and free slots. Returns whether
 * it was the last thing that a drain has waited for: then nothing may come any more. */
static bool
begin_turn(pws_engine *e)
{
    bool was_drained = pws_engine_is_drained(e);

    pws_turn_update_clock(e);
    pws_turn_take_hand_backs(e);
    if (e->queue_first != NULL && e->config->queue_timeout_ms > 0) {
        pws_give_up_late(e);
    }
    pws_accept_again(e);
    return !was_drained && pws_engine_is_drained(e);
}

/* The rest of a turn: a new batch if the last one is used up, as much of it as allowed.
 * A pause of accepting may end by it. */
static int
run_turn(pws_engine *e, uint32_t budget, int timeout_ms)
{
    if (e->at >= e->poller.count && e->queued < budget &&
        fetch_batch(e, budget, timeout_ms) < 0) {
        return -1;
    }
    run_batch(e, budget);
    pws_accept_again(e);
    return 0;
}

int
pws_engine_poll(pws_engine *e, uint32_t budget, int timeout_ms)
{
    if (begin_turn(e) || e->queue_first != NULL) {
        timeout_ms = 0;
    }
    if (run_turn(e, budget, timeout_ms) < 0) {
        return -1;
    }
    return has_chores(e) || e->queue_first != NULL ? 1 : 0;
}

int
pws_engine_relieve(pws_engine *e, int timeout_ms)
{
    int64_t began_ms = e->clock.now_ms;
    bool others_wait = e->queue_first != NULL;

    timeout_ms = begin_turn(e) ? 0 : sooner(pws_park_wait_ms(e), timeout_ms);
    if (run_turn(e, NO_APP, timeout_ms) < 0) {
        return -1;
    }
    if (others_wait) {
        pws_park_starve(e, e->clock.now_ms - began_ms);
    }
    return 0;
}

void
pws_engine_end_wait(pws_engine *e)
{
    if (e->waiting) {
        e->waits_until_ms = 0; /* once is enough */
        pws_poller_wake(&e->poller);
    }
}

/* Wake who waits in the poller, if there is something, beside requests, that he did not
 * know of when he began. */
static void
rouse(pws_engine *e, bool requests)
{
    int due_ms;

    if (!e->waiting) {
        return;
    }
    due_ms = next_due_ms(e);
    if (requests || has_chores(e) ||
        (due_ms >= 0 && e->clock.now_ms + due_ms < e->waits_until_ms)) {
        pws_engine_end_wait(e);
    }
}

void
pws_engine_tidy(pws_engine *e)
{
    (void)begin_turn(e);
    pws_turn_resume_ready(e);
    rouse(e, false);
}

bool
pws_engine_take_event(pws_engine *e)
{
    pws_event event;

    if (!e->waiting || !pws_poller_take_one(&e->poller, &event)) {
        return false;
    }
    run_event(e, &event);
    pws_accept_again(e);
    rouse(e, false);
    return true;
}

void
pws_engine_rouse(pws_engine *e)
{
    pws_accept_again(e);
    rouse(e, e->queue_first != NULL);
}

/* Those who hand requests back work with the clock of the turn; here is none. */
void
pws_engine_take_back(pws_engine *e)
{
    pws_turn_update_clock(e);
    pws_turn_take_hand_backs(e);
    pws_accept_again(e);
}

bool
pws_engine_show(pws_engine *e, bool may_run, int left_ms)
{
    bool work =
        has_chores(e) || e->park.resumed != NULL || (may_run && e->queue_first != NULL);
    int due_ms = tick_logs(e, sooner(left_ms, next_due_ms(e)));

    due_ms = sooner(pws_park_wait_ms(e), due_ms);
    /* Without a timer it is asked all the time: better than never. */
    if (pws_poller_arm(&e->poller, e->clock.now_ms, due_ms) < 0 || work) {
        pws_poller_wake(&e->poller);
    }
    return work;
}

/* A turn while the app waits for the client of `x`; counts how long others wait for it.
 */
static int
run_held_turn(pws_engine *e, pws_exchange *x, int64_t left_ms)
{
    int64_t began_ms = e->clock.now_ms;
    bool others_wait = e->queue_first != NULL;

    begin_turn(e);
    if (!others_wait && e->queue_first != NULL) {
        left_ms = 0; /* from now on patience counts */
    }
    if (run_turn(e, NO_APP, left_ms > INT32_MAX ? -1 : (int)left_ms) < 0) {
        return -1;
    }
    if (others_wait) {
        x->held_ms += e->clock.now_ms - began_ms;
    }
    return 0;
}

/* The poller's turns until something of `what` has happened, or the deadline is over.
 */
static int
wait_until(pws_engine *e, const pws_wait *wait, int64_t deadline_ms)
{
    pws_conn *c = wait->x->conn;

    for (;;) {
        int64_t left_ms = deadline_ms - e->clock.now_ms;

        if (e->queue_first != NULL && wait->patience_ms > 0) {
            int64_t patience_ms = wait->patience_ms - wait->x->held_ms;

            left_ms = left_ms < patience_ms ? left_ms : patience_ms;
        }
        if ((atomic_load(&c->events) & (wait->what | PWS_BROKEN)) != 0) {
            if ((wait->what & PWS_WRITABLE) != 0) {
                atomic_fetch_and(&c->events, ~(uint32_t)PWS_WRITABLE);
            }
            return 1;
        }
        if ((wait->what & PWS_WRITABLE) != 0 &&
            atomic_load(&wait->x->emptied) != wait->emptied) {
            return 1;
        }
        if (left_ms <= 0) {
            return 0;
        }
        if (run_held_turn(e, wait->x, left_ms) < 0) {
            return PWS_WAIT_FAILED;
        }
        if (e->poller.woken) {
            return PWS_WAIT_WOKEN;
        }
    }
}

int
pws_engine_wait(pws_engine *e, const pws_wait *wait)
{
    if (pws_conn_poll(e, wait->x->conn) < 0) {
        return 0;
    }
    pws_exchange_send_on(wait->x);
    pws_turn_update_clock(e);
    return wait_until(
        e, wait, wait->timeout_ms > 0 ? e->clock.now_ms + wait->timeout_ms : PWS_NEVER);
}
