/* conn.h - one client connection, from accept to close.
 *
 * A connection has one owner: the engine (whoever holds its lease), or, while it is in
 * PWS_CONN_APP, the executor that has its exchange; then the engine only notes events
 * for it. An idle connection owns no buffer and no exchange. Its state is changed in
 * one function (conn_state.h), which sets its deadline too. Memory is freed by the
 * engine at one safe point, never in a function that was handed the connection. */
#ifndef PWS_ENGINE_CONN_H
#define PWS_ENGINE_CONN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/address.h"
#include "engine/listener.h"
#include "engine/timers.h"

typedef struct pws_engine pws_engine;
typedef struct pws_exchange pws_exchange;

typedef enum {
    PWS_CONN_IDLE,    /* waits for the first byte of a request */
    PWS_CONN_HEAD,    /* has received a part of a head */
    PWS_CONN_BODY,    /* has a head, receives the body */
    PWS_CONN_QUEUED,  /* a request waits for an executor */
    PWS_CONN_APP,     /* an executor has the exchange */
    PWS_CONN_SENDING, /* the response is made, the client takes it slowly */
    PWS_CONN_LINGER,  /* closed for sending; what still comes is thrown away */
    PWS_CONN_CLOSED,  /* waits to be freed */
} pws_conn_state;

typedef struct pws_conn {
    pws_timer timer;       /* first: a timer of the wheel is its connection */
    struct pws_conn *next; /* on the ready list or the dead list */
    pws_listener *listener;
    pws_exchange *x; /* NULL when idle */
    int fd;
    uint32_t slot;
    uint32_t generation;
    _Atomic uint32_t events; /* PWS_READABLE ...: noted and not yet acted on */
    pws_conn_state state;
    int64_t since_ms;    /* it is in this state; BODY: since the head began */
    _Atomic bool polled; /* it is in the poller's set, or about to be */
    bool ready;          /* it is on the ready list */
    bool trusted;        /* the peer's forwarding fields count */
    bool barred;         /* the peer may not speak uwsgi to us */
    bool served;         /* at least one request was answered */
    pws_peer peer;
} pws_conn;

/* Begin with an accepted socket. `look`: reads at once what is there; else when the
 * poller says that there is something. */
void pws_conn_begin(pws_engine *e, pws_conn *c, bool look);

/* The poller saw `what` (PWS_READABLE ...). */
void pws_conn_event(pws_engine *e, pws_conn *c, unsigned what);

/* Go on from where it stopped: it was on the ready list. */
void pws_conn_resume(pws_engine *e, pws_conn *c);

/* Its deadline has passed. */
void pws_conn_expired(pws_engine *e, pws_conn *c);

/* The executor has given its exchange back. */
void pws_conn_take_back(pws_engine *e, pws_conn *c);

/* Put it into the poller's set, if it is not there. Returns 0, or -1 (it is in the
 * log). */
int pws_conn_poll(pws_engine *e, pws_conn *c);

/* The same; if it is there, what can be done with its socket makes an event again, as
 * it did when it was put in. For owners of its exchange too: it needs no lease. */
void pws_conn_poll_anew(pws_engine *e, pws_conn *c);

/* Hand a queued connection's exchange to an executor. Returns false when its client has
 * gone (it is closed then) or there is no memory. */
bool pws_conn_give(pws_engine *e, pws_conn *c);

/* The engine is to end: an idle connection is not waited for as long as otherwise. */
void pws_conn_hurry(pws_engine *e, pws_conn *c);

typedef enum {
    PWS_CLOSE_BOTH_WAYS,
    PWS_CLOSE_RESET, /* a client that reads until the end can tell that it was cut */
    PWS_CLOSE_OURS,  /* our descriptor only: the app has a copy and goes on */
} pws_close;

/* Close now; memory goes at the next safe point. */
void pws_conn_close(pws_engine *e, pws_conn *c, pws_close how);

#endif
