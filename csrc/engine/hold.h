/* hold.h - finished responses that wait a moment, to be sent together.
 *
 * A send to a client that sleeps wakes it up, which can cost more than all the rest of
 * the send. Several sends in a row mostly find it awake. So while the next request is
 * there already and the app is quick, a short finished response is held back: until the
 * batch of requests is done, until enough are held or the first of them has waited for
 * long enough, but always before anything waits for the poller.
 *
 * Only the answers to GET and HEAD are held: they may be asked for again should the
 * process die in the next app call. Should that call be slow all of a sudden, the
 * relief (relief.h) sends what is held; without one, nothing is held at all. The same
 * goes for a response that is whole while the app still closes it: it is lent
 * meanwhile (or, where several executors run apps, sent before that). And for pieces of
 * a response that an app yields in quick succession: they go out several at a time, as
 * PEP 3333 has it ("Buffering and Streaming": another thread continues to transmit
 * while the app produces the next one). Held connections belong to the engine, and all
 * calls want its lease, but those around the lending. */
#ifndef PWS_ENGINE_HOLD_H
#define PWS_ENGINE_HOLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/conn.h"
#include "engine/relief.h"

/* Responses held at a time. */
#define PWS_HOLD_MAX 16

typedef struct {
    int64_t quick_ns; /* nothing is held when requests take longer on average; or 0;
                         -1: forbidden */
    int64_t wait_ns;  /* after so long no further response is waited for */
    int64_t mean_ns;  /* what requests have taken, the last ones counting most */
    int64_t turn_ns;  /* when the last request ended, or the batch began */
    int64_t since_ns; /* since when the first response is held */
    int64_t piece_ns; /* since when an app may make the next piece of its response */
    int64_t sent_ns;  /* when the last piece was sent at once */
    _Atomic uint32_t count;
    pws_conn *first, *last;
    bool crowded; /* several executors: nothing is lent, and they measure themselves */
    _Atomic(pws_exchange *) lent;
    _Atomic bool sending; /* the relief is at what was lent */
    pws_relief *relief;
} pws_hold;

/* Let responses be held, once some hundred requests have shown that the app is quick.
 * For an executor that runs one request after the other, in an engine that is not
 * hosted, with a relief that runs. */
void pws_hold_allow(pws_hold *hold, pws_relief *relief);

/* Let no response wait for anything, not even for that to the next request of its
 * client: for an executor that does not know how long its apps take. */
void pws_hold_forbid(pws_hold *hold);

/* The same for a crew of threads (crew.h), which tells how long its apps take. */
void pws_hold_allow_crew(pws_hold *hold, pws_relief *relief);

/* Whether a response may wait for the next request of the same client, which is there:
 * not where apps are known to be slow. */
static inline bool
pws_hold_may_gather(const pws_hold *hold)
{
    return hold->quick_ns == 0 || hold->mean_ns < hold->quick_ns;
}

/* Whether there is something for the relief to look after. From any thread. */
static inline bool
pws_hold_any(pws_hold *hold)
{
    return atomic_load(&hold->count) > 0 || atomic_load(&hold->lent) != NULL;
}

/* A piece of the response of `x` was written, and its app goes on: whether the piece
 * may wait for the next one. Never the `first`, nor one that the app has taken long
 * for, nor while the relief polls. One that may not is sent, which is to be noted. */
bool pws_hold_gather(pws_hold *hold, const pws_exchange *x, bool first);
void pws_hold_note_piece_sent(pws_hold *hold);

/* What is written of the response of `x` may wait (pws_exchange_may_wait, or
 * pws_hold_gather), and its executor runs code of the app before it gives `x` back. The
 * relief may send it until pws_hold_reclaim, which waits for the end of a send. */
void pws_hold_lend(pws_hold *hold, pws_exchange *x);
void pws_hold_reclaim(pws_hold *hold);

/* For the relief: send what is lent; under the lease, what has been held for too long.
 */
void pws_hold_send_lent(pws_hold *hold);
void pws_hold_send_late(pws_engine *e);

/* In a forked child, which has no relief. */
void pws_hold_abandon(pws_hold *hold);

/* A batch of requests begins. */
void pws_hold_begin_batch(pws_hold *hold);

/* For a connection that is handed out: whether its response may wait. */
bool pws_hold_offered(const pws_engine *e, const pws_conn *c);

/* An app call has gone on for so long, and is not over: it will not be measured. */
void pws_hold_note(pws_hold *hold, int64_t ns);

/* A request has ended: note how long it took, and send what was held long enough. */
void pws_hold_end_request(pws_engine *e);

/* Hold the finished response of `c`, if it may wait. Returns whether it is held. */
bool pws_hold_take(pws_engine *e, pws_conn *c);

/* Send all that is held. */
void pws_hold_send(pws_engine *e);

#endif
