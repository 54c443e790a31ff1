#include "engine/hold.h"

#include <sched.h>

#include "engine/conn_state.h"
#include "engine/engine_queue.h"
#include "engine/exchange.h"

/* Beyond this, a wake-up is next to nothing beside the request. */
#define QUICK_NS (500 * 1000)

/* Below what anybody notices, and long enough for several quick requests. */
#define WAIT_NS (1000 * 1000)

/* Pieces of a response that come faster than that are gathered, up to so many bytes:
 * more of them save little. */
#define SOON_NS (100 * 1000)
#define GATHER_MAX (16u * 1024)

/* The mean before the first request: not quick. */
#define FIRST_MEAN_NS (10 * 1000 * 1000)

/* How much a request counts in the mean: a 64th. A call that is slow once in a while
 * ends holding for as many requests as it takes to outweigh it. */
#define MEAN_OF 64

void
pws_hold_allow(pws_hold *hold, pws_relief *relief)
{
    hold->relief = relief;
    hold->quick_ns = QUICK_NS;
    hold->wait_ns = WAIT_NS;
    hold->mean_ns = FIRST_MEAN_NS;
}

void
pws_hold_forbid(pws_hold *hold)
{
    hold->quick_ns = -1; /* less than anything takes */
}

void
pws_hold_allow_crew(pws_hold *hold, pws_relief *relief)
{
    pws_hold_allow(hold, relief);
    hold->crowded = true;
}

void
pws_hold_begin_batch(pws_hold *hold)
{
    if (hold->quick_ns > 0) {
        hold->turn_ns = pws_clock_ns();
    }
}

static bool
is_safe(const pws_request *req)
{
    return req->head ||
           pws_slice_eq(pws_request_slice(req, req->method), PWS_SLICE("GET"));
}

bool
pws_hold_offered(const pws_engine *e, const pws_conn *c)
{
    return e->hold.mean_ns < e->hold.quick_ns &&
           (e->at < e->poller.count || e->queue_first != NULL) &&
           is_safe(&c->x->request);
}

void
pws_hold_note(pws_hold *hold, int64_t ns)
{
    hold->mean_ns += (ns - hold->mean_ns) / MEAN_OF;
}

void
pws_hold_end_request(pws_engine *e)
{
    pws_hold *hold = &e->hold;
    int64_t now_ns;

    if (hold->quick_ns <= 0) {
        return;
    }
    now_ns = pws_clock_ns();
    if (!hold->crowded) {
        pws_hold_note(hold, now_ns - hold->turn_ns);
    }
    hold->turn_ns = now_ns;
    if (hold->mean_ns >= hold->quick_ns || hold->count >= PWS_HOLD_MAX ||
        now_ns - hold->since_ns >= hold->wait_ns) {
        pws_hold_send(e);
    }
}

bool
pws_hold_take(pws_engine *e, pws_conn *c)
{
    pws_hold *hold = &e->hold;

    if (!pws_exchange_may_wait(c->x) || hold->mean_ns >= hold->quick_ns || c->ready) {
        return false;
    }
    pws_conn_set_state(e, c, PWS_CONN_SENDING);
    c->ready = true; /* on this list, as if on the engine's: it is visited soon */
    c->next = NULL;
    if (hold->last != NULL) {
        hold->last->next = c;
    }
    else {
        hold->first = c;
        hold->since_ns = hold->turn_ns;
    }
    hold->last = c;
    atomic_fetch_add(&hold->count, 1);
    if (hold->relief != NULL) {
        pws_relief_arm(hold->relief);
    }
    return true;
}

void
pws_hold_send(pws_engine *e)
{
    pws_conn *c = e->hold.first;

    if (c == NULL) {
        return;
    }
    e->hold.first = e->hold.last = NULL;
    atomic_store(&e->hold.count, 0);
    pws_engine_resume_all(e, c);
}

void
pws_hold_send_late(pws_engine *e)
{
    if (e->hold.first != NULL && pws_clock_ns() - e->hold.since_ns >= e->hold.wait_ns) {
        pws_hold_send(e);
    }
}

bool
pws_hold_gather(pws_hold *hold, const pws_exchange *x, bool first)
{
    int64_t now_ns, before_ns = hold->piece_ns;

    if (hold->relief == NULL || hold->crowded ||
        atomic_load(&hold->relief->word) == PWS_RELIEF_POLLS) {
        return false; /* to wake who polls costs more than a send */
    }
    now_ns = hold->piece_ns = pws_clock_ns();
    return !first && now_ns - before_ns < SOON_NS &&
           now_ns - hold->sent_ns < hold->wait_ns && x->out.first == NULL &&
           x->out.pending < GATHER_MAX;
}

void
pws_hold_note_piece_sent(pws_hold *hold)
{
    if (hold->relief != NULL && !hold->crowded) {
        hold->piece_ns = hold->sent_ns = pws_clock_ns();
    }
}

void
pws_hold_lend(pws_hold *hold, pws_exchange *x)
{
    if (hold->crowded) {
        (void)pws_exchange_flush(x);
        pws_exchange_lend(x);
    }
    else if (hold->relief != NULL) {
        atomic_store(&hold->lent, x);
        pws_relief_arm(hold->relief);
    }
}

void
pws_hold_reclaim(pws_hold *hold)
{
    if (hold->relief == NULL || hold->crowded ||
        atomic_exchange(&hold->lent, NULL) != NULL) {
        return;
    }
    while (atomic_load(&hold->sending)) {
        sched_yield();
    }
}

void
pws_hold_send_lent(pws_hold *hold)
{
    pws_exchange *x;

    atomic_store(&hold->sending, true);
    x = atomic_exchange(&hold->lent, NULL);
    if (x != NULL) {
        pws_exchange_send_lent(x);
    }
    atomic_store(&hold->sending, false);
}

void
pws_hold_abandon(pws_hold *hold)
{
    atomic_store(&hold->lent, NULL);
    atomic_store(&hold->sending, false);
    hold->relief = NULL;
    hold->quick_ns = 0;
}
