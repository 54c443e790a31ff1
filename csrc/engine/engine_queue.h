/* engine_queue.h - what moves between the parts of an engine: exchanges out of and into
 * the pools and through the queue, connections that are to be visited or freed.
 *
 * For the engine and its state machines; all calls want the lease. */
#ifndef PWS_ENGINE_ENGINE_QUEUE_H
#define PWS_ENGINE_ENGINE_QUEUE_H

#include "engine/engine.h"

/* An exchange for the connection, or NULL without memory. */
pws_exchange *pws_engine_take_exchange(pws_engine *e, pws_conn *c);

/* Give it back to the pool, with its buffers, body and output. */
void pws_engine_give_exchange(pws_engine *e, pws_exchange *x);

/* Put a complete request to the end or the front of the queue. */
void pws_engine_queue(pws_engine *e, pws_exchange *x, bool front);

/* Take the first one out; NULL: there is none. */
static inline pws_exchange *
pws_engine_unqueue(pws_engine *e)
{
    pws_exchange *x = e->queue_first;

    if (x != NULL) {
        e->queue_first = x->next;
        if (e->queue_first == NULL) {
            e->queue_last = NULL;
        }
        e->queued--;
        x->next = NULL;
    }
    return x;
}

/* Take the first one out that was queued at `since_ms` or before; NULL: there is none.
 */
pws_exchange *pws_engine_unqueue_old(pws_engine *e, int64_t since_ms);

/* Visit the connection again before the next wait. */
void pws_engine_make_ready(pws_engine *e, pws_conn *c);

/* Do that now, for a whole list; the closed ones go to the dead. */
void pws_engine_resume_all(pws_engine *e, pws_conn *c);

/* It is closed: its slot is free, its memory goes at the safe point. */
void pws_engine_forget(pws_engine *e, pws_conn *c);

#endif
