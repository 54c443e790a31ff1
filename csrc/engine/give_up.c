#include "engine/give_up.h"

#include "engine/conn_state.h"
#include "engine/engine_queue.h"

void
pws_give_up_begin(pws_engine *e)
{
    for (uint32_t i = 0; i < e->slot_count; i++) {
        if (e->slots[i].conn != NULL) {
            pws_conn_hurry(e, e->slots[i].conn);
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
