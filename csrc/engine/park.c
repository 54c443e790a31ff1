#include "engine/park.h"

#include "engine/engine.h"

void
pws_park_init(pws_park_lot *lot)
{
    *lot = (pws_park_lot){.end_ms = PWS_NEVER};
}

void
pws_park_abandon(pws_park_lot *lot)
{
    pws_park_init(lot);
}

/* The connection's timer is at the earliest deadline of those that wait for it. */
static void
set_timer(pws_engine *e, const pws_exchange *x)
{
    int64_t deadline_ms = x->parked != NULL ? e->park.end_ms : PWS_NEVER;

    for (const pws_parking *p = x->parked; p != NULL; p = p->of_same) {
        if (p->deadline_ms < deadline_ms) {
            deadline_ms = p->deadline_ms;
        }
    }
    pws_timers_set(&e->timers, &x->conn->timer, deadline_ms);
}

/* Count how long others have waited for the client of `x`. All that wait for one
 * exchange have been charged for at the same time. */
static void
charge(const pws_engine *e, pws_exchange *x)
{
    if (x->parked != NULL) {
        x->held_ms += e->park.starved_ms - x->parked->starved_from_ms;
    }
    for (pws_parking *p = x->parked; p != NULL; p = p->of_same) {
        p->starved_from_ms = e->park.starved_ms;
    }
}

/* Hosted: the descriptor tells of the new deadline. */
static void
show_deadline(pws_engine *e)
{
    if (e->config->hosted && pws_engine_arm(e) < 0) {
        pws_poller_wake(&e->poller); /* the next poll tries again */
    }
}

static void
put_in(pws_engine *e, pws_parking *p)
{
    pws_park_lot *lot = &e->park;

    charge(e, p->x);
    p->starved_from_ms = lot->starved_ms;
    p->prev = NULL;
    p->next = lot->waiting;
    if (p->next != NULL) {
        p->next->prev = p;
    }
    lot->waiting = p;
    lot->count++;
    p->of_same = p->x->parked;
    p->x->parked = p;
    p->state = PWS_PARK_WAITS;
    set_timer(e, p->x);
}

static void
take_out(pws_engine *e, pws_parking *p)
{
    pws_park_lot *lot = &e->park;
    pws_parking **place = &p->x->parked;

    charge(e, p->x);
    while (*place != NULL && *place != p) {
        place = &(*place)->of_same;
    }
    *place = p->of_same;
    if (p->prev != NULL) {
        p->prev->next = p->next;
    }
    else {
        lot->waiting = p->next;
    }
    if (p->next != NULL) {
        p->next->prev = p->prev;
    }
    p->prev = p->next = p->of_same = NULL;
    p->state = PWS_PARK_NOT;
    lot->count--;
    set_timer(e, p->x);
}

static void
append_resumed(pws_park_lot *lot, pws_parking *p)
{
    p->state = PWS_PARK_RESUMED;
    if (lot->resumed_last != NULL) {
        lot->resumed_last->next = p;
    }
    else {
        lot->resumed = p;
    }
    lot->resumed_last = p;
}

/* Its owner may have gone on when this returns; but the exchange is there for as long
 * as we have the lease. */
static void
resume(pws_engine *e, pws_parking *p, int result)
{
    take_out(e, p);
    p->result = result;
    if (p->notice != NULL) {
        p->notice(p);
    }
    else {
        append_resumed(&e->park, p);
    }
}

/* Who has waited for room to send, and is told, has used it up. */
static void
use_up(const pws_parking *p)
{
    if ((p->what & PWS_WRITABLE) != 0) {
        atomic_fetch_and(&p->x->conn->events, ~(uint32_t)PWS_WRITABLE);
    }
}

/* Whether it has happened. */
static bool
has_happened(const pws_parking *p)
{
    _Atomic uint32_t *events = &p->x->conn->events;

    if ((p->what & PWS_WRITABLE) != 0 && atomic_load(&p->x->emptied) != p->emptied) {
        return true;
    }
    if ((atomic_load(events) & (p->what | PWS_BROKEN)) == 0) {
        return false;
    }
    use_up(p);
    return true;
}

static bool
is_over(pws_engine *e, const pws_parking *p)
{
    charge(e, p->x);
    return p->deadline_ms <= e->clock.now_ms || e->park.end_ms <= e->clock.now_ms ||
           (p->patience_ms > 0 && p->x->held_ms >= p->patience_ms);
}

bool
pws_park(pws_engine *e, pws_parking *p)
{
    p->state = PWS_PARK_NOT;
    p->result = PWS_PARK_OVER;
    if (pws_conn_poll(e, p->x->conn) < 0) {
        return false;
    }
    pws_exchange_send_on(p->x);
    if (has_happened(p)) {
        p->result = PWS_PARK_HAPPENED;
        return false;
    }
    pws_clock_read(&e->clock);
    if (is_over(e, p)) {
        return false;
    }
    put_in(e, p);
    show_deadline(e);
    return true;
}

pws_parking *
pws_park_next(pws_engine *e)
{
    pws_park_lot *lot = &e->park;
    pws_parking *p = lot->resumed;

    if (p != NULL) {
        lot->resumed = p->next;
        if (lot->resumed == NULL) {
            lot->resumed_last = NULL;
        }
        p->next = NULL;
        p->state = PWS_PARK_NOT;
    }
    return p;
}

static void
unlist(pws_park_lot *lot, pws_parking *p)
{
    pws_parking *before = NULL;

    for (pws_parking *at = lot->resumed; at != p; at = at->next) {
        before = at;
    }
    if (before != NULL) {
        before->next = p->next;
    }
    else {
        lot->resumed = p->next;
    }
    if (lot->resumed_last == p) {
        lot->resumed_last = before;
    }
    p->next = NULL;
    p->state = PWS_PARK_NOT;
}

void
pws_park_cancel(pws_engine *e, pws_parking *p)
{
    switch (p->state) {
    case PWS_PARK_NOT:
        return;
    case PWS_PARK_WAITS:
        take_out(e, p);
        p->result = PWS_PARK_CANCELLED;
        return;
    case PWS_PARK_RESUMED:
        unlist(&e->park, p);
        return;
    }
}

void
pws_park_cancel_all(pws_engine *e, pws_exchange *x)
{
    while (x->parked != NULL) {
        resume(e, x->parked, PWS_PARK_CANCELLED);
    }
}

void
pws_park_event(pws_engine *e, pws_exchange *x)
{
    uint32_t noted = atomic_load(&x->conn->events);
    pws_parking *p = x->parked, *next;

    for (; p != NULL; p = next) {
        next = p->of_same;
        if ((noted & (p->what | PWS_BROKEN)) != 0) {
            use_up(p);
            resume(e, p, PWS_PARK_HAPPENED);
        }
    }
}

void
pws_park_expired(pws_engine *e, pws_exchange *x)
{
    pws_parking *p = x->parked, *next;

    for (; p != NULL; p = next) {
        next = p->of_same;
        if (is_over(e, p)) {
            resume(e, p, PWS_PARK_OVER);
        }
    }
    set_timer(e, x);
}

/* Those whose time or patience is over. */
static void
look(pws_engine *e)
{
    pws_parking *p = e->park.waiting, *next;

    for (; p != NULL; p = next) {
        next = p->next;
        if (is_over(e, p)) {
            resume(e, p, PWS_PARK_OVER);
        }
    }
}

void
pws_park_end_at(pws_engine *e, int64_t end_ms)
{
    if (end_ms >= e->park.end_ms) {
        return;
    }
    e->park.end_ms = end_ms;
    look(e);
    for (const pws_parking *p = e->park.waiting; p != NULL; p = p->next) {
        set_timer(e, p->x);
    }
    show_deadline(e);
}

void
pws_park_starve(pws_engine *e, int64_t waited_ms)
{
    e->park.starved_ms += waited_ms;
    if (e->park.waiting != NULL && e->clock.now_ms >= e->park.look_ms) {
        e->park.look_ms = e->clock.now_ms + PWS_TICK_MS;
        look(e);
    }
}

int
pws_park_wait_ms(const pws_engine *e)
{
    return e->park.waiting != NULL && e->queue_first != NULL ? PWS_TICK_MS : -1;
}
