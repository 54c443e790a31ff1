#include "engine/engine.h"

#include <unistd.h>

#include "engine/access_log.h"
#include "engine/exchange.h"

void
pws_engine_abandon(pws_engine *e)
{
    e->abandoned = true;
    pws_lease_init(&e->lease); /* its holder is a thread of the parent */
    pws_pins_abandon(&e->outputs.pins);
    pws_hold_abandon(&e->hold);
    pws_park_abandon(&e->park);
    pws_relief_abandon(&e->relief);
    if (e->config->access_log != NULL) {
        pws_access_log_discard(e->config->access_log);
    }
    for (uint32_t i = 0; i < e->slot_count; i++) {
        pws_conn *c = e->slots[i].conn;

        if (c != NULL) {
            close(c->fd);
            c->fd = -1;
            c->polled = false;
            if (c->x != NULL) {
                c->x->gone = true;
                atomic_store(&c->x->lent, PWS_OUTPUT_OWNED);
            }
        }
    }
    for (unsigned i = 0; i < e->listener_count; i++) {
        e->listeners[i].polled = false;
        e->listeners[i].inode = 0; /* the parent's to remove */
        pws_listener_close(&e->listeners[i]);
    }
    pws_poller_close(&e->poller);
}
