/* lane.h - what one thread of execution keeps from request to request.
 *
 * A lane has the template environ of each listener and the objects that an app is
 * handed: start_response, its write(), wsgi.input, wsgi.early_hints and
 * gunicorn.socket. They serve one request after the other, unless an app keeps one:
 * that one is detached for good (it raises when used) and replaced. One request at a
 * time runs in a lane. */
#ifndef PWS_PY_LANE_H
#define PWS_PY_LANE_H

#include "py/module.h"

#include "engine/engine.h"
#include "proc/master.h"

typedef struct pws_lane pws_lane;

/* The lane that an object is attached to; NULL: its request has ended. */
typedef _Atomic(pws_lane *) pws_lane_link;

static inline pws_lane *
pws_lane_linked(pws_lane_link *link)
{
    return atomic_load_explicit(link, memory_order_relaxed);
}

/* Attach an object to a lane, or detach it. */
void pws_lane_link_to(PyObject *object, pws_lane_link *link, pws_lane *lane);

/* What ties a worker to its master. */
typedef struct {
    const pws_master *master;
    uint64_t max_requests; /* after which it wants a successor; 0: none */
    PyObject *heed;        /* called with the orders that have come, as bits */
} pws_tie;

/* Wait until one of `what` (PWS_READABLE, PWS_WRITABLE) has happened for the exchange
 * in hand, or `timeout_ms` (0: none) has passed. Returns 1, 0 when the client is not to
 * be waited for any longer, or -1 with an exception set. Entered with the GIL held. */
typedef int (*pws_lane_wait)(pws_lane *lane, unsigned what, int64_t timeout_ms);

/* Who asks: a number that nobody else has at the same time. Several executions of one
 * thread, such as greenlets, have one each. */
typedef uintptr_t (*pws_lane_self)(const pws_lane *lane);

/* The request ends: make those who wait for its client come back, who then see that. */
typedef void (*pws_lane_rouse)(pws_lane *lane);

/* Let others go on for a moment. Returns 0, or -1 with an exception set that somebody
 * has thrown in here. */
typedef int (*pws_lane_pause)(pws_lane *lane);

typedef enum {
    PWS_STOP_NOT,
    PWS_STOP_GRACEFUL, /* finish what has begun, within the time */
    PWS_STOP_QUICK,    /* finish the app call in hand */
} pws_stop;

/* What lanes are told, by signal handlers and other threads that wake the engine then.
 */
typedef struct {
    _Atomic int stop;       /* pws_stop */
    _Atomic int64_t end_ms; /* GRACEFUL: when time is over, on the engine's clock */
    _Atomic int64_t
        drain_ms; /* GRACEFUL: until when connections are accepted; 0: no more */
} pws_orders;

/* The last few client addresses as Python strings. */
#define PWS_ADDRESS_CACHE 16

typedef struct {
    pws_peer peer;
    PyObject *text;
} pws_address_text;

/* What a server gives all its lanes. Borrowed. */
typedef struct {
    pws_module *module;
    pws_engine *engine;
    const pws_orders *orders;
    PyObject *app;
    PyObject *errors;        /* wsgi.errors */
    PyObject *software;      /* SERVER_SOFTWARE */
    PyObject *log_exception; /* called with a text and the exception */
    PyObject *script_name;   /* SCRIPT_NAME of all requests, or "" */
    /* Hooks around each request, NULL for none: called with environ, returns what the
     * second one gets first; called with that, environ, status, headers, length. */
    PyObject *before_request, *after_request;
    const pws_tie *tie; /* NULL: there is no master */
    /* PWS_ADDRESS_CACHE of them, for lanes of one thread; NULL: each has its own. */
    pws_address_text *addresses;
    struct pws_environ_memos *memos; /* likewise; of more threads if there is the GIL */
    bool multithread, multiprocess, sendfile;
} pws_lane_config;

struct pws_lane {
    const pws_lane_config *config;
    pws_module *module;
    pws_engine *engine;
    pws_lane_wait wait;
    pws_lane_self self;    /* for threads, unless the executor has another one */
    pws_lane_pause pause;  /* likewise */
    pws_lane_rouse rouse;  /* likewise */
    void *executor;        /* what the lane is to who made it; for these four */
    const pws_lane *model; /* whose templates it uses; NULL: its own */
    PyObject **templates;  /* by the index of a listener */
    unsigned template_count;
    /* Handed to the app. */
    PyObject *start_response, *write, *early_hints, *input, *socket;
    bool incomplete;   /* an object could not be replaced: try again */
    PyObject *context; /* contextvars of the start; each request runs in a copy */
    /* Threads of the app, or its greenlets, may share a request: one at a time is
     * inside an object of it. */
    _Atomic uintptr_t busy;   /* who is inside; 0: nobody; 1: its end keeps them out */
    _Atomic bool ending;      /* the request ends: who waits for its client gives up */
    _Atomic unsigned waiters; /* threads on their way in, or waiting for the client */
    /* The request in hand. */
    pws_exchange *x; /* NULL between requests */
    bool called_off; /* it is ended by the server, which is no failure of the app's */
    PyObject *status,
        *headers; /* a str and a tuple, of start_response; NULL: not called */
    pws_address_text *addresses;     /* its own, or the config's */
    struct pws_environ_memos *memos; /* likewise */
    unsigned memo_count; /* environs that are kept with its objects (environ_memo.h) */
};

/* Returns a lane to be freed with pws_lane_free, or NULL with an exception set. */
pws_lane *pws_lane_new(const pws_lane_config *config, pws_lane_wait wait);
void pws_lane_free(pws_lane *lane);

/* One that does with the templates of another lane of the same config, which must
 * outlive it: it takes less memory, and a bit longer to begin an environ. */
pws_lane *pws_lane_new_like(const pws_lane *model, pws_lane_wait wait);

/* Forget such addresses. */
void pws_lane_clear_addresses(pws_address_text *addresses);

/* Let go of the objects whose bytes have been sent. With the GIL. */
void pws_lane_drop_released(pws_engine *e);

/* Begin a request: attach the lane's objects to it. Returns 0, or -1 with an exception
 * set when one of them is missing for want of memory. */
int pws_lane_begin(pws_lane *lane, pws_exchange *x);

/* End it: wait for other threads to leave its objects, detach these, and replace those
 * that the app has kept. */
void pws_lane_end(pws_lane *lane);

/* A thread, or a greenlet, goes into an object of the request, which has this link; it
 * lets others go on while somebody is inside. Returns the lane, or NULL with an
 * exception set: the request has ended (an instance of `ended`, with `text`),
 * or it is inside already. Leave before anything that runs Python code of the app. */
pws_lane *pws_lane_enter(PyObject *object, pws_lane_link *link, PyObject *ended,
                         const char *text);
void pws_lane_leave(pws_lane *lane);

/* Around a wait for the client: others may go in meanwhile. The second returns 0, or -1
 * with an exception set when the request has ended; it is inside again either way. */
void pws_lane_step_out(pws_lane *lane);
int pws_lane_step_in(pws_lane *lane);

#endif
