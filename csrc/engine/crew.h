/* crew.h - threads that lead in turn: one polls, and runs the request that comes
 * itself.
 *
 * A crew has a seat for each of its threads. Of those that have no request one leads,
 * which is to wait in the poller; the others sleep. Who leads and gets a request runs
 * it, so that nothing is handed from thread to thread; quick apps never need a second
 * one. Another is woken to lead at once where apps are known to last, else by the
 * relief (relief.h), within half a millisecond. Who is done gives the request back by
 * itself, takes the next one that is queued, leads if nobody does, or sleeps: last
 * come, first woken. While the leader waits, the lease is free.
 *
 * An executor with a lock of its own (the GIL) waits for that lock before it takes a
 * request, so that none is stuck behind it: pws_crew_wait is called without that lock,
 * pws_crew_next with it. Neither is the lease ever waited for with it, nor it with the
 * lease. Nothing here knows Python. What is under the lease says so; the others may be
 * called by any thread. */
#ifndef PWS_ENGINE_CREW_H
#define PWS_ENGINE_CREW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/poller.h"
#include "engine/relief.h"

typedef struct pws_seat pws_seat;

struct pws_seat {
    pws_call *call;         /* ours, of the array that the relief looks at */
    _Atomic uint32_t woken; /* futex of who sleeps */
    /* Under the lease: */
    pws_seat *next; /* of those that sleep */
    bool coming;    /* woken, or back from the poller, and not there yet */
    bool measured;  /* `took_ns` is to be taken into account */
    /* Its thread's own: */
    int64_t began_ns, took_ns;
};

typedef struct pws_crew {
    pws_engine *engine;
    pws_call *calls;
    pws_seat *seats;
    unsigned count;
    pws_poller *bell; /* of who looks after the crew in a loop: see pws_crew_call; set
                         before they begin, or NULL */
    /* Under the lease: */
    pws_seat *idle;   /* those that sleep */
    bool polls;       /* somebody leads; or they have not begun */
    unsigned coming;  /* on their way to look */
    unsigned out;     /* that have a request */
    int64_t lasts_ns; /* an app call that takes so long has lasted */
    unsigned lasting; /* of 256 app calls, those that did, or still do */
    bool ending;      /* who has no request leaves */
    int error;        /* errno of the poller that has failed; 0: it has not */
    /* For the relief, which looks without the lease: */
    _Atomic uint32_t moves;  /* changes when somebody takes a step */
    _Atomic bool vacant;     /* nobody leads, nor is to, and somebody could be woken */
    _Atomic bool unattended; /* nobody leads */
    _Atomic bool stranded;   /* nor could, and somebody waits for a client */
    _Atomic uint32_t
        calls_up;             /* futex of who looks after the crew: see pws_crew_call */
    _Atomic uint32_t present; /* threads that have not left */
} pws_crew;

/* Returns 0, or -1 with errno. The engine, in which nobody else polls from now on, and
 * its relief, which is not started yet, must outlive it. */
int pws_crew_init(pws_crew *crew, pws_engine *e, unsigned count);

/* When all have left, or in a process that ends without them. */
void pws_crew_free(pws_crew *crew);

/* Let them begin: until then those that have taken their seats sleep. */
void pws_crew_begin(pws_crew *crew);

/* A thread takes its seat, or has left it. */
void pws_crew_join(pws_crew *crew);
void pws_crew_leave(pws_crew *crew);

/* Take the lease for one of the calls below, from the relief if need be. Returns, for
 * the first one, whether that went without a wait. */
bool pws_crew_try_take(pws_crew *crew);
void pws_crew_take(pws_crew *crew);

/* The next request for this seat, or NULL: call pws_crew_wait. Entered with the lease,
 * left without. The app is to be called between the two that follow, and not to be
 * watched while it waits for its client: pws_relief_pause_call. */
pws_exchange *pws_crew_next(pws_crew *crew, pws_seat *seat);
void pws_crew_enter(pws_crew *crew, pws_seat *seat, pws_exchange *x);
void pws_crew_done(pws_seat *seat, pws_exchange *x);

/* Lead or sleep until there is something to take, objects are to be let go of, or the
 * crew ends, of which the caller makes sure. Returns false in that case alone. */
bool pws_crew_wait(pws_crew *crew, pws_seat *seat);

/* For who looks after the crew: let him look at the engine's state, signals and
 * letters; if he has a bell, it is rung, too. From any thread. The second waits for
 * that, up to `timeout_ms` (-1: for ever), unless it has been called since `seen`.
 * Returns what is to be `seen` the next time. */
void pws_crew_call(pws_crew *crew);
uint32_t pws_crew_wait_call(pws_crew *crew, uint32_t seen, int timeout_ms);

/* Who has no request is to leave. */
void pws_crew_end(pws_crew *crew);

/* Park the exchange of the calling thread until something of `what` has happened, on
 * behalf of a thread of the crew or any other. The fields and the result are as park.h
 * has them. Without the lease. */
typedef struct {
    pws_exchange *x;
    unsigned what;
    uint32_t emptied;
    int64_t deadline_ms, patience_ms;
} pws_crew_wish;
int pws_crew_park(pws_crew *crew, const pws_crew_wish *wish);

/* End all waits for the client of `x`, as cancelled. */
void pws_crew_rouse(pws_crew *crew, pws_exchange *x);

/* For the relief: nobody leads for long enough, so wake somebody. Returns whether one
 * was woken. Without the lease; never waits. */
bool pws_crew_promote(pws_crew *crew);

#endif
