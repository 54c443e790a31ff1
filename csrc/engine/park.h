/* park.h - requests in hand whose executors wait for their clients, while the engine
 * goes on.
 *
 * An executor that can let others run meanwhile (a pool of threads, greenlets) parks
 * its exchange, instead of polling for it alone (pws_engine_wait), and drops the lease.
 * Whoever polls, the relief too, resumes it when what it waits for has happened, its
 * time or its patience is over, or it is cancelled. It is then told by its notice, or,
 * without one, comes out of pws_park_next. Deadlines are as exact as the wheel
 * (timers.h), and shown by a hosted engine's descriptor.
 *
 * A parking belongs to who waits, and stays where it is until it was resumed or
 * cancelled. It must not be on the stack of a greenlet. Several may wait for one
 * exchange, which must not be given back before they are resumed. All calls want the
 * lease. */
#ifndef PWS_ENGINE_PARK_H
#define PWS_ENGINE_PARK_H

#include <stdbool.h>
#include <stdint.h>

typedef struct pws_engine pws_engine;
typedef struct pws_exchange pws_exchange;
typedef struct pws_parking pws_parking;

/* It has been resumed: `result` is there, and the engine does not touch it any more. By
 * whoever polls, with the lease and without the GIL: wake the owner, and do not wait.
 */
typedef void (*pws_park_notice)(pws_parking *p);

typedef enum {
    PWS_PARK_NOT, /* never was, was taken, or its owner was told */
    PWS_PARK_WAITS,
    PWS_PARK_RESUMED, /* it waits for pws_park_next */
} pws_park_state;

/* Results: as pws_engine_wait has them. */
enum {
    PWS_PARK_OVER = 0,       /* time or patience: do not wait for the client again */
    PWS_PARK_HAPPENED = 1,   /* or the connection is broken, which shows when used */
    PWS_PARK_CANCELLED = -1, /* by somebody else, for the owner to look why */
};

struct pws_parking {
    /* By the owner, before it is parked: */
    pws_exchange *x;
    unsigned what;          /* PWS_READABLE ... */
    uint32_t emptied;       /* x->emptied when it could not be sent: PWS_WRITABLE */
    int64_t deadline_ms;    /* on the engine's clock; PWS_NEVER: none */
    int64_t patience_ms;    /* how long, in all waits for this request's client, others
                               may be kept waiting for an executor; 0: for ever */
    pws_park_notice notice; /* NULL: pws_park_next */
    void *owner;            /* for the notice */
    /* By the engine: */
    int result;
    pws_park_state state;
    int64_t starved_from_ms;  /* e->park.starved_ms that the exchange was charged for */
    pws_parking *prev, *next; /* of those that wait; `next`: of those resumed */
    pws_parking *of_same;     /* the next one that waits for the same exchange */
};

/* Embedded in an engine. */
typedef struct {
    pws_parking *waiting;
    pws_parking *resumed, *resumed_last;
    uint32_t count;     /* that wait */
    int64_t end_ms;     /* nobody waits for a client beyond it */
    int64_t starved_ms; /* for which requests have waited in pws_engine_relieve */
    int64_t look_ms;    /* when patience is looked at again */
} pws_park_lot;

void pws_park_init(pws_park_lot *lot);

/* Returns whether it is parked now; if not, `result` is there already. */
bool pws_park(pws_engine *e, pws_parking *p);

/* The next one that was resumed and has no notice, or NULL. */
pws_parking *pws_park_next(pws_engine *e);

/* It is not waited for any more: nobody is told. Its result is as it was if it had been
 * resumed, else PWS_PARK_CANCELLED. */
void pws_park_cancel(pws_engine *e, pws_parking *p);

/* Resume all that wait for the exchange, as cancelled. */
void pws_park_cancel_all(pws_engine *e, pws_exchange *x);

/* From now on nobody waits for a client beyond `end_ms`: a drain ends then, or at once
 * (0). Later calls may only make it sooner. */
void pws_park_end_at(pws_engine *e, int64_t end_ms);

/* For the engine: something has happened for the exchange's connection; its deadline
 * has passed; a turn has begun in which no app can be called, or has ended: others wait
 * now, and have waited for so long; how long such a turn may last at most (-1: no
 * matter). */
void pws_park_event(pws_engine *e, pws_exchange *x);
void pws_park_expired(pws_engine *e, pws_exchange *x);
void pws_park_starve(pws_engine *e, int64_t waited_ms);
int pws_park_wait_ms(const pws_engine *e);

/* In a forked child: nobody is resumed any more. */
void pws_park_abandon(pws_park_lot *lot);

#endif
