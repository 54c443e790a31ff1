/* hold.h - finished responses that wait a moment, to be sent together.
 *
 * A send to a client that sleeps wakes it up, which can cost more than all the rest of
 * the send. Several sends in a row mostly find it awake. So while the next request is
 * there already and the app is quick, a short finished response is held back: until the
 * batch of requests is done, until enough are held or the first of them has waited for
 * long enough, but always before anything waits for the poller.
 *
 * Only the answers to GET and HEAD are held: they may be asked for again should the
 * process die in the next app call. An app call that is slow all of a sudden delays
 * what is held by its own length; whoever takes the lease meanwhile may send it
 * (pws_hold_send). Held connections belong to the engine, and all calls want its lease.
 */
#ifndef PWS_ENGINE_HOLD_H
#define PWS_ENGINE_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/conn.h"

/* Responses held at a time. */
#define PWS_HOLD_MAX 16

typedef struct {
    int64_t quick_ns; /* nothing is held when requests take longer on average; or 0 */
    int64_t wait_ns;  /* after so long no further response is waited for */
    int64_t mean_ns;  /* what requests have taken, the last ones counting most */
    int64_t turn_ns;  /* when the last request ended, or the batch began */
    int64_t since_ns; /* since when the first response is held */
    uint32_t count;
    pws_conn *first, *last;
} pws_hold;

/* Let responses be held, once some hundred requests have shown that the app is quick.
 * For an executor that runs one request after the other, in an engine that is not
 * hosted. */
void pws_hold_allow(pws_hold *hold);

/* A batch of requests begins. */
void pws_hold_begin_batch(pws_hold *hold);

/* For a connection that is handed out: whether its response may wait. */
bool pws_hold_offered(const pws_engine *e, const pws_conn *c);

/* A request has ended: note how long it took, and send what was held long enough. */
void pws_hold_end_request(pws_engine *e);

/* Hold the finished response of `c`, if it may wait. Returns whether it is held. */
bool pws_hold_take(pws_engine *e, pws_conn *c);

/* Send all that is held. */
void pws_hold_send(pws_engine *e);

#endif
