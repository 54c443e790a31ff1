#include "engine/give_up.h"

#include "base/log.h"
#include "engine/conn_state.h"
#include "engine/engine_queue.h"

/* How often a queue is searched for those that have waited for too long. */
#define LOOK_EVERY_MS 50

void
pws_give_up_begin(pws_engine *e)
{
    for (uint32_t i = 0; i < e->slot_count; i++) {
        if (e->slots[i].conn != NULL) {
            pws_conn_hurry(e, e->slots[i].conn);
        }
    }
}

void
pws_give_up_hands(pws_engine *e)
{
    for (uint32_t i = 0; i < e->slot_count; i++) {
        const pws_conn *c = e->slots[i].conn;

        if (c != NULL && c->state == PWS_CONN_APP) {
            (void)pws_exchange_answer(c->x, 504);
        }
    }
}

/* No app has seen it, and none will. */
static void
turn_away(pws_engine *e, pws_exchange *x)
{
    pws_conn *c = x->conn;

    if (!pws_conn_give(e, c)) {
        return; /* its client has gone */
    }
    (void)pws_exchange_refuse(x, 503);
    x->started.tv_sec = 0;
    pws_conn_take_back(e, c);
}

void
pws_give_up_queue(pws_engine *e)
{
    pws_exchange *x;

    while ((x = pws_engine_unqueue(e)) != NULL) {
        turn_away(e, x);
    }
}

void
pws_give_up_late(pws_engine *e)
{
    int64_t since_ms = e->clock.now_ms - e->config->queue_timeout_ms;
    pws_exchange *x;

    if (e->clock.now_ms < e->queue_look_ms) {
        return;
    }
    e->queue_look_ms = e->clock.now_ms + LOOK_EVERY_MS;
    while ((x = pws_engine_unqueue_old(e, since_ms)) != NULL) {
        pws_log_limited(PWS_LOG_QUEUED, PWS_LOG_WARNING,
                        "queue_timeout: a request has waited for %lld ms: 503",
                        (long long)(e->clock.now_ms - x->queued_ms));
        turn_away(e, x);
    }
}

bool
pws_give_up_is_done(const pws_engine *e)
{
    for (uint32_t i = 0; i < e->slot_count; i++) {
        const pws_conn *c = e->slots[i].conn;

        if (c != NULL && c->state != PWS_CONN_APP) {
            return false;
        }
        if (c != NULL && pws_exchange_is_taken(c->x) && !c->x->ended) {
            return false;
        }
    }
    return true;
}
