/* berth.h - a place for one request at a time: a lane, and the greenlet that runs in
 * it.
 *
 * What greenlets.c, which hands requests to berths, and greenlet_wait.c, by which they
 * wait, have in common. A berth belongs to its pool for as long as that lives; the
 * greenlet in it may be another one from request to request. */
#ifndef PWS_PY_BERTH_H
#define PWS_PY_BERTH_H

#include "py/greenlet_api.h"
#include "py/hosted.h"

typedef struct pws_berth pws_berth;
typedef struct pws_nap pws_nap;

/* Of one server. */
typedef struct {
    pws_runner runner; /* first */
    pws_hosted *hosted;
    pws_greenlet_api api;
    PyObject *hub; /* switches to the others, and is switched to when they wait */
    /* of the host */
    PyObject *make, *settle, *forget, *late, *overdue, *call_off, *stray, *look;
    PyObject *context;                             /* of each lane */
    pws_address_text addresses[PWS_ADDRESS_CACHE]; /* of all lanes */
    unsigned long thread;                          /* the hub's */
    uint32_t most, count;
    pws_berth *free;                 /* the one that was used last comes first */
    uint32_t free_count, free_least; /* the least since trim_ms */
    int64_t trim_ms;
    pws_berth *oldest, *newest; /* with a request in hand */
    uint32_t in_hand;
    uint32_t unseen; /* requests that have ended since the last step, outside of one */
    pws_lane *model; /* of the lanes that are made in a crowd; NULL: none was yet */
    pws_berth *hands[PWS_BOARD_HANDS]; /* whose requests the board shows; NULL: free */
    pws_nap *nap_first, *nap_last;     /* greenlets that go on in the next step */
    bool entered;     /* the relief watches the request that runs in this step */
    bool is_over;     /* requests that are still in hand were left behind */
    PyObject *forker; /* in a forked child: the greenlet that has made it */
} pws_greenlets;

struct pws_berth {
    pws_greenlets *pool;
    pws_lane *lane;
    PyObject *greenlet; /* NULL: none yet */
    Py_ssize_t refs;    /* of a greenlet that rests and is nobody's but ours */
    pws_exchange *x;    /* NULL: it is free */
    pws_berth *prev, *next;
    bool ends; /* its greenlet is to return */
    bool told_slow, told_overdue;
    unsigned waits;   /* of its request for the client, that go on */
    int64_t since_ms; /* when the app's time began; moved on by waits */
    int64_t spent_ms; /* by the app, before the wait that goes on */
    int hand;         /* of the board, that shows its request; -1: none */
};

#endif
