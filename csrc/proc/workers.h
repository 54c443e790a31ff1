/* workers.h - the workers of a master: what it knows of each, and what it tells them.
 *
 * Worker i has cell i of the board. A worker is wanted while it is of the generation in
 * force, is not to be recycled and has not asked for a successor; the others serve
 * until enough wanted ones do. Orders travel on a socket a worker, whose end tells it
 * that the master has gone. */
#ifndef PWS_PROC_WORKERS_H
#define PWS_PROC_WORKERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/board.h"

typedef enum {
    PWS_WORKER_NONE,    /* the place is free */
    PWS_WORKER_BOOTING, /* forked, and not ready yet */
    PWS_WORKER_SERVING,
    PWS_WORKER_RETIRING, /* told to end */
} pws_worker_state;

typedef enum {
    PWS_KIND_WORKER,
    PWS_KIND_MOLD, /* has loaded the app, and forks workers: see mold.h */
} pws_worker_kind;

#define PWS_SLOT_WORDS (PWS_WORKERS_MAX / 64)
/* Why a worker is to end, as far as it was decided here. */
typedef enum {
    PWS_CAUSE_NONE,
    PWS_CAUSE_RECYCLED, /* `reason` says more */
    PWS_CAUSE_RELOAD,   /* its successors are of a new generation */
    PWS_CAUSE_GIVEN_UP, /* its generation could not start, or another one came */
    PWS_CAUSE_SURPLUS,  /* fewer are wanted */
    PWS_CAUSE_OWN,      /* it has closed its sockets by itself */
    PWS_CAUSE_STOP,     /* all end */
    PWS_CAUSE_LATE,     /* it took too long; `reason` says for what */
} pws_cause;

/* The sign of life that it is asked for: see sign.h. */
typedef struct {
    int64_t asked_ms;  /* when it was asked last; 0: not yet */
    int64_t heard_ms;  /* when it was asked what it has answered last; 0: nothing */
    int64_t next_ms;   /* when to look again; 0: it need not give any */
    uint64_t requests; /* that it had served when we looked */
    uint32_t seen;     /* signs, when it was asked */
    unsigned in_vain;  /* looks since then that found nothing */
    bool sent;         /* the question fitted into its socket */
} pws_sign;

/* How far it is with a worker that takes too long: see late.h. */
typedef struct {
    enum {
        PWS_LATE_NOT,
        PWS_LATE_TOLD,     /* it is in the log; stacks are asked for */
        PWS_LATE_ABORTED,  /* its app was interrupted */
        PWS_LATE_GIVEN_UP, /* that was in vain: it is killed when it is deserted */
        PWS_LATE_OVER,     /* that request has ended; the next may be late */
    } stage;
    bool wants_stacks, gives_up;
    bool silent;      /* it is late with its sign of life, and not with what it does */
    bool overdue;     /* with the requests that it has said to be, of any hand */
    uint64_t request; /* the number of the one of the first hand that is, or was, late
                         by the master's own watch; 0: none */
    int64_t next_ms;  /* of a stage: when its time is over; PWS_NEVER */
} pws_lateness;

typedef struct {
    pws_worker_state state;
    pws_worker_kind kind;
    pws_lateness late;
    pws_sign sign;
    pid_t pid;       /* 0: a mold forks it, and has not said yet */
    unsigned number; /* 1 for the first one of the master */
    unsigned generation;
    unsigned slot;                  /* see slots.h */
    uint64_t polls[PWS_SLOT_WORDS]; /* bits: the slots whose sockets it polls */
    int order_fd;                   /* our end of its socket; -1: none */
    int last_signal;   /* SIGABRT or SIGKILL once we have sent it, else 0 */
    int64_t end_ms;    /* when it is killed; PWS_NEVER */
    int64_t nudge_ms;  /* when it is told once more, as it could not read the order */
    int64_t served_ms; /* since when it serves; 0: it does not yet */
    pid_t asked_of;    /* the mold that was asked for it; 0: we have forked it */
    int64_t asked_ms;  /* when that was */
    int64_t claim_ms;  /* when it must have said its pid; PWS_NEVER: not known yet */
    bool timed_out;    /* it was late, and is killed for that */
    pws_cause cause;
    char reason[PWS_REASON_MAX]; /* more of the cause; "" */
} pws_worker;

typedef struct {
    pws_board *board;    /* shared */
    unsigned generation; /* the one in force */
    unsigned top;        /* no worker was ever beyond */
    pws_worker all[PWS_BOARD_CELLS];
} pws_workers;

/* What is written to a worker. The numbers are bits of pws_poller's letters; some more
 * are in engine/lent.h and engine/poller.h. */
typedef enum {
    PWS_ORDER_RETIRE = 1,  /* finish what has begun, then end */
    PWS_ORDER_QUICK = 2,   /* finish the call in hand, then end */
    PWS_ORDER_REOPEN = 4,  /* open the log files anew */
    PWS_ORDER_GIVE_UP = 8, /* to its relief: the process will be killed */
    PWS_ORDER_DRAIN = 16,  /* let each answer say close, and go on */
} pws_order;

/* How many there are, of workers that were sent no deadly signal; molds are among the
 * living alone. */
typedef struct {
    unsigned living;  /* processes of any kind that are not reaped yet */
    unsigned booting; /* wanted */
    unsigned serving; /* wanted */
    unsigned spare;   /* serving, and not wanted */
    unsigned there;   /* workers that are not reaped yet, whatever they do */
    unsigned tried;   /* serving, and of the generation in force, wanted or not */
    unsigned old;     /* booting or serving, and of another generation */
} pws_worker_count;

/* Map the board. Returns 0, or -1 with errno. */
int pws_workers_init(pws_workers *workers);

/* Close the sockets and this process' share of the board. Ends nobody. */
void pws_workers_close(pws_workers *workers);

pws_worker_count pws_workers_count(const pws_workers *workers);

static inline pws_cell *
pws_worker_cell(const pws_workers *workers, const pws_worker *w)
{
    return &workers->board->cells[w - workers->all];
}

/* Whether it accepts no more, of its own accord. */
static inline bool
pws_worker_has_closed(const pws_workers *workers, const pws_worker *w)
{
    return atomic_load_explicit(&pws_worker_cell(workers, w)->closed,
                                memory_order_relaxed);
}

/* Whether it is one of those that are to stay. */
bool pws_worker_is_wanted(const pws_workers *workers, const pws_worker *w);

/* A free place, its cell assigned and a pair of sockets made: `*order_fd` is the end
 * that the worker reads. NULL with errno. The caller sets number and pid, or gives the
 * place back. */
pws_worker *pws_workers_take(pws_workers *workers, pws_worker_kind kind, int *order_fd);
void pws_workers_give(pws_worker *w);

/* How many workers of a slot are wanted, and boot or serve, or only serve. */
unsigned pws_workers_at(const pws_workers *workers, unsigned slot, bool serving);

/* In a forked child: close the sockets of all workers, which are the master's. */
void pws_workers_forget(pws_workers *workers);

/* The mold of the generation in force, booting or serving; NULL: there is none. */
const pws_worker *pws_workers_mold(const pws_workers *workers);

/* Who is to retire next for want of need: the oldest that is not wanted, one whose slot
 * has a successor before all others; with `wanted`, of those with the highest slot the
 * oldest, or, where none serves, the youngest that boots. NULL: nobody. */
pws_worker *pws_workers_spare(pws_workers *workers, bool wanted);

/* Write an order. One that cannot be written is lost: the socket is full or its reader
 * is gone, and deadlines do the rest. Returns whether it was written. */
bool pws_worker_order(const pws_worker *w, unsigned order);

/* Tell a worker to end, and kill it when it has not by `end_ms`. One that boots reads
 * no orders: it gets a signal, and another one every second, since what runs there may
 * lose it (pws_worker_nudge). */
void pws_worker_retire(pws_worker *w, pws_order order, int64_t end_ms);
void pws_worker_nudge(pws_worker *w, int64_t now_ms);

/* Whether it takes too long, and something is done about it (late.h). */
static inline bool
pws_worker_is_late(const pws_worker *w)
{
    return w->late.stage != PWS_LATE_NOT && w->late.stage != PWS_LATE_OVER;
}

/* Why it is to end: the first cause is the one that is kept, here and on the board.
 * `reason` says more, or is "". */
void pws_worker_blame(const pws_workers *workers, pws_worker *w, pws_cause cause,
                      const char *reason);

#endif
