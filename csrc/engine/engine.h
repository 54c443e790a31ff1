/* engine.h - listeners, connections and deadlines in one epoll set, pulled by an
 * executor.
 *
 * The engine never calls the app: pws_engine_poll moves bytes and queues complete
 * requests, pws_engine_next hands one out as an exchange, pws_exchange_done gives it
 * back. All calls here but pws_engine_wake want the lease held. The configuration and
 * the listeners are borrowed and must outlive the engine, which closes the listeners'
 * descriptors when it drains. */
#ifndef PWS_ENGINE_ENGINE_H
#define PWS_ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/board.h"
#include "base/clock.h"
#include "engine/access_log.h"
#include "engine/exchange.h"
#include "engine/hold.h"
#include "engine/lease.h"
#include "engine/memo.h"
#include "engine/park.h"
#include "engine/poller.h"
#include "engine/pool.h"

typedef struct {
    pws_rules rules;
    uint32_t worker_connections;
    int64_t header_timeout_ms;  /* for a whole head; 0: none, as for all of these */
    int64_t body_timeout_ms;    /* between two pieces of a body */
    int64_t send_timeout_ms;    /* between two pieces of a response */
    int64_t keepalive_ms;       /* between two requests; 0: one request a connection */
    int64_t request_timeout_ms; /* for the app, and one request */
    int64_t queue_timeout_ms;   /* for a request to wait for an executor */
    int64_t slow_request_ms;    /* after which such a request is told of */
    bool request_buffering;
    bool hosted; /* the set's descriptor is watched by another loop: pws_engine_show */
    uint64_t body_buffer_size;
    uint64_t response_spool_limit;
    const char *spool_dir; /* NULL: none is writable */
    pws_slice server;      /* value of Server; empty: none */
    bool trust_all;        /* every peer may forward */
    const pws_network *trusted;
    uint32_t trusted_count;
    bool admit_all; /* every peer may speak uwsgi */
    const pws_network *admitted;
    uint32_t admitted_count;
    pws_access_log *access_log;     /* NULL: none */
    const _Atomic uint32_t *rivals; /* processes that accept from the listeners, with
                                       this one; NULL: there is no other */
} pws_engine_config;

/* A native handler sees each request before Python does. Returns whether it has
 * answered. */
typedef bool (*pws_handler)(void *context, pws_exchange *x);
#define PWS_HANDLERS_MAX 4

/* New connections that may be left unread: see accept.c. */
#define PWS_UNREAD_MAX 128
typedef struct {
    uint32_t slot, generation;
} pws_unread;

typedef struct {
    pws_conn *conn; /* NULL: free */
    uint32_t generation;
} pws_slot;

struct pws_engine {
    const pws_engine_config *config;
    pws_lease lease;
    pws_poller poller;
    pws_timers timers;
    pws_clock clock;
    pws_pool blocks, exchanges, conns;
    pws_slot *slots;
    uint32_t *free_slots;
    uint32_t slot_count, free_count;
    pws_listener *listeners;
    unsigned listener_count;
    unsigned own_listeners; /* the first ones; the others are lent: see lent.h */
    unsigned listener_room; /* of the array: set it to more for some to be lent */
    unsigned unclosed;      /* listeners that a drain could not empty yet */
    bool accepting;         /* the listeners are in the poller's set */
    bool abandoned;         /* this process is a forked child of the one that serves */
    _Atomic bool draining;  /* every response closes */
    bool drained;           /* no new connections: the listeners are closed */
    bool elsewhere;         /* connections are somebody else's: see pws_accept_leave */
    bool suspended;         /* none for now, because the app is stuck */
    bool lends_waits;       /* who waits in the poller gives up the lease: see crew.h */
    bool waiting;           /* somebody does so now */
    int64_t waits_until_ms; /* for how long at most; PWS_NEVER */
    bool accept_failing;    /* the last accept failed: it is in the log */
    pws_said private_said;
    uint32_t handed_out; /* requests since the listeners were looked at */
    uint32_t look_after; /* so many it is time to do so again, if requests wait */
    int64_t looked_ms;
    pws_unread unread[PWS_UNREAD_MAX]; /* or were read since */
    unsigned unread_count;
    int64_t sifted_ms;       /* when they were looked through */
    pws_said *said;          /* in the log: by this one, or by all of a server */
    int64_t evict_said_ms;   /* when an eviction was last in the log */
    int64_t accept_again_ms; /* after a failed accept; PWS_NEVER: not waiting */
    uint32_t field_room;     /* of each exchange, for most requests */
    uint32_t field_most;     /* what a request may need */
    int at;                  /* next event of the poller's batch */
    uint32_t queued;
    pws_exchange *queue_first, *queue_last;
    int64_t queue_look_ms; /* when those that wait for too long are looked for again */
    _Atomic(pws_exchange *) handed_back;
    pws_conn *ready_first, *ready_last;
    pws_conn *dead;
    pws_park_lot park;
    pws_hold hold;
    pws_relief relief; /* for an executor to start and end */
    pws_body_shared bodies;
    pws_memos memos;
    uint64_t large_heads; /* bytes of all receive buffers above PWS_BLOCK_SIZE */
    pws_output_shared outputs;
    struct {
        pws_handler serve;
        void *context;
    } handlers[PWS_HANDLERS_MAX];
    unsigned handler_count;
    char date[PWS_HTTP_DATE_LEN]; /* of clock.wall_s */
    int64_t date_s;
    uint64_t accepted, requests; /* since the start */
};

/* Returns 0, or -1 with errno. */
int pws_engine_init(pws_engine *e, const pws_engine_config *config,
                    pws_listener *listeners, unsigned count);

/* Close every connection and free everything. Objects that outputs had pinned are on
 * pws_engine_released afterwards; take them before the memory of `e` goes. */
void pws_engine_close(pws_engine *e);

/* Append a native handler. Returns 0 or -1 when there are too many. */
int pws_engine_add_handler(pws_engine *e, pws_handler serve, void *context);

/* Move connections on until `budget` requests are queued or nothing is left to do,
 * waiting up to `timeout_ms` (-1: for ever) only when there is nothing at all. Returns
 * 1 when more could be done at once, 0 when not, -1 with errno when the poller fails.
 */
int pws_engine_poll(pws_engine *e, uint32_t budget, int timeout_ms);

/* Poll while no app can be called, because those in hand are stuck, or all wait for
 * their clients: requests that are complete are queued, and do not end the wait, nor
 * does a hosted engine's descriptor tell of them. Returns 0 or -1 with errno. */
int pws_engine_relieve(pws_engine *e, int timeout_ms);

/* While another thread waits in the poller and has lent us the lease: take what was
 * handed back and do what is left to do, which may queue requests. The waiting thread
 * is woken if it has to know. */
void pws_engine_tidy(pws_engine *e);

/* After that, before the thread that waits has had its turn: run one event of a
 * connection that is there already. What more there is to do then is left to that
 * thread. Returns whether there was one. */
bool pws_engine_take_event(pws_engine *e);

/* End the wait of that thread, for it to look at everything anew. */
void pws_engine_end_wait(pws_engine *e);

/* For who was at work there and takes no request: wake the thread that waits, if there
 * is one, when requests are queued or something is left to do. */
void pws_engine_rouse(pws_engine *e);

/* Hosted: before control goes back to the loop that watches the set's descriptor, make
 * that tell what the kernel does not know: work of the engine's own; requests that are
 * queued, unless nobody can run one; deadlines, `left_ms` (-1: none) being another one.
 * Returns whether there is work now. */
bool pws_engine_show(pws_engine *e, bool may_run, int left_ms);

/* Take what was handed back, outside of a poll: responses go out. Then show. */
void pws_engine_take_back(pws_engine *e);

/* The next complete request, or NULL. */
pws_exchange *pws_engine_next(pws_engine *e);

/* Before its executor has it: one of a crowd that is in hand at the same time keeps
 * only the memory that it needs. */
void pws_engine_slim(pws_engine *e, pws_exchange *x);

/* What an executor waits for that can do nothing else meanwhile. */
typedef struct {
    pws_exchange *x;
    unsigned what;       /* PWS_READABLE ... */
    uint32_t emptied;    /* x->emptied when it could not be sent: PWS_WRITABLE */
    int64_t timeout_ms;  /* 0: none */
    int64_t patience_ms; /* how long, in all waits for this request's client, other
                            requests may be kept waiting; 0: for ever */
} pws_wait;

/* Poll until one of wait->what has happened for the connection of wait->x, or time or
 * patience are over. Other requests are queued, not handed out. Returns 1 when it
 * happened, 0 when time is over, PWS_WAIT_WOKEN when the wait was ended from outside
 * (see pws_engine_wake): look at signals, then call again; PWS_WAIT_FAILED with errno
 * when the poller fails. */
#define PWS_WAIT_WOKEN (-1)
#define PWS_WAIT_FAILED (-2)
int pws_engine_wait(pws_engine *e, const pws_wait *wait);

/* From now on each response says close. From any thread, without the lease. The drain
 * itself follows, at once or later: until then connections are accepted as before. */
static inline void
pws_engine_announce_drain(pws_engine *e)
{
    atomic_store(&e->draining, true);
}

/* Stop accepting: what is in the kernel's queue is taken first, then the listeners are
 * closed, so that new clients are refused or reach another process. (One whose queue is
 * longer than there is room is closed when the rest of it has been taken.) Each
 * response says close; idle connections are closed after a few seconds, since a request
 * may be on its way. */
void pws_engine_drain(pws_engine *e);

/* In a forked child: close its copies of all descriptors, without a word to the
 * kernel's epoll set, which is the parent's too. Exchanges in hand lose their client.
 */
void pws_engine_abandon(pws_engine *e);

/* Connections that are open. */
static inline uint32_t
pws_engine_open(const pws_engine *e)
{
    return e->slot_count - e->free_count;
}

/* Whether all that a drain waits for has gone; nobody here knows, where connections are
 * somebody else's. */
static inline bool
pws_engine_is_drained(const pws_engine *e)
{
    return e->drained && !e->elsewhere && e->unclosed == 0 && pws_engine_open(e) == 0 &&
           e->queue_first == NULL;
}

/* Whether there are any of those: */
static inline bool
pws_engine_has_released(const pws_engine *e)
{
    return atomic_load_explicit(&e->outputs.released.first, memory_order_relaxed) !=
           NULL;
}

/* Segments whose objects can be let go of: see output.h. */
static inline pws_segment *
pws_engine_released(pws_engine *e)
{
    return pws_released_take(&e->outputs.released);
}

/* Hosted: make the descriptor of the set readable when something is due. Returns 0, or
 * -1 with errno. */
int pws_engine_arm(pws_engine *e);

/* End a wait from another thread or a signal handler. */
static inline void
pws_engine_wake(pws_engine *e)
{
    pws_poller_wake(&e->poller);
}

#endif
