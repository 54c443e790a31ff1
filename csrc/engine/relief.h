/* relief.h - a thread without Python that looks after an engine while an app is slow.
 *
 * The executor drops the lease while an app runs, and says so (pws_relief_enter). The
 * relief watches, ten times a second while there are requests. When an app call lasts
 * for a tenth of a second, it takes the lease and polls until the call is over: moves
 * readers and senders on, answers time-outs, sends what is finished, queues what is
 * complete. It accepts no connections meanwhile: another process can serve them at
 * once. It minds the time of the request in hand, and does what the master says to a
 * worker that will be killed (letters). Who comes back from the app wakes the poller
 * and gets the lease at once.
 *
 * Where the engine is in somebody else's loop, its steps are turns, too. A loop that is
 * held up by what is no app call of ours shows in a set that is readable while no step
 * comes for as long: the relief takes a turn then, ten times a second, and waits for
 * events while it rests. It does not speak for such a loop: a sign of life is owed
 * until a step comes.
 *
 * A crew of threads (crew.h) has many calls in hand, and mostly somebody else to poll.
 * There the relief wakes a leader when nobody has led for some time, minds the time of
 * all calls, and polls by itself only when nobody else has for a tenth of a second.
 *
 * Besides, whoever leaves something behind that must not wait for the app's end
 * (hold.h) arms the relief: it then looks 250 times a second (a crew's 4,000 times),
 * and sends what is overdue as soon as it can have the lease. With nothing to do for a
 * second it sleeps until there is something. It never waits for the lease, and knows
 * neither Python nor signals. */
#ifndef PWS_ENGINE_RELIEF_H
#define PWS_ENGINE_RELIEF_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/board.h"

typedef struct pws_engine pws_engine;
typedef struct pws_exchange pws_exchange;
typedef struct pws_crew pws_crew;

/* An app call in hand; written by its executor. One does not share a line of the cache
 * with the next. */
typedef struct {
    _Atomic uint32_t turn; /* odd: inside; changes with each call, wait and return */
    _Atomic(pws_exchange *) x;
    pws_hand *hand; /* what the board shows of it; NULL: its time is not minded */
    char apart[40];
} pws_call;

/* What it does; also the futex that it sleeps on. A later one is not left for an
 * earlier one but by the thread itself. */
enum {
    PWS_RELIEF_RESTS,
    PWS_RELIEF_WATCHES, /* whether an app call lasts */
    PWS_RELIEF_LOOKS,   /* what is held or lent */
    PWS_RELIEF_POLLS,   /* in place of the executor */
    PWS_RELIEF_ENDS,
};

/* What ties it to a master; zeroed without one. Then no time-outs are minded. */
typedef struct {
    pws_cell *cell;
    int news_fd;              /* a byte there says: look at the cell */
    unsigned drain_letters;   /* that tell the engine to end some time */
    unsigned give_up_letters; /* that say: this process will be killed */
} pws_relief_terms;

typedef struct {
    pws_engine *engine;
    pthread_t thread;
    int bell; /* hosted: an eventfd for what wakes it, in place of the futex; else -1 */
    _Atomic uint32_t word;
    pws_relief_terms terms; /* set before the start */
    pws_call own;    /* the app call in hand, of an executor that has one at a time */
    pws_call *calls; /* all that there can be: `own`, or the crew's */
    pws_crew *crew;  /* NULL: there is none */
    unsigned call_count;
    _Atomic unsigned wanted; /* threads of the crew that want the lease from us */
    /* Around a fork. */
    _Atomic unsigned paused; /* forks that are underway */
    bool holds; /* the lease, for all of them: it keeps a crew from the engine */
    pthread_mutex_t lock; /* of `holds` */
    _Atomic bool busy;
    bool running;
    /* Used under the lease. */
    bool woken; /* it has taken a wake-up that is for the executor */
    bool gives_up;
    unsigned letters; /* that the executor took while the request in hand waited */
    /* Its own. */
    uint32_t seen;
    bool stands_in;    /* for a loop that is held up */
    bool answering;    /* some answer in place of an app is not sent as a whole */
    int64_t seen_ms;   /* since when it has seen that turn */
    int64_t shown_ms;  /* since when a loop has had a reason to call; 0: it has none */
    int64_t minded_ms; /* when it has looked at the time of a crew's calls */
} pws_relief;

/* Start the thread. Returns 0, or -1 with errno. */
int pws_relief_start(pws_relief *relief, pws_engine *e);

/* End it, if it runs, and wait for its end. Call it without the lease. */
void pws_relief_end(pws_relief *relief);

/* Under the lease, before the next request: while several are queued the executor takes
 * no turns of the engine between quick calls, and no call is long enough to be
 * relieved. When the last turn is as long ago as that, take one in the same way. */
void pws_relief_catch_up(pws_relief *relief);

/* Before a fork: wait until it does nothing, and keep it so; afterwards, in the parent:
 * let it go on. Forks of several threads may overlap. The first is to be called without
 * the lease, from a thread that does not poll. */
void pws_relief_pause(pws_relief *relief);
void pws_relief_go_on(pws_relief *relief);

/* In a forked child, which has no such thread. */
void pws_relief_abandon(pws_relief *relief);

/* For the two below: do at least that from now on. */
void pws_relief_wake(pws_relief *relief, uint32_t to);

/* There is something to look after: call it after that can be seen. */
static inline void
pws_relief_arm(pws_relief *relief)
{
    if (atomic_load(&relief->word) != PWS_RELIEF_LOOKS) {
        pws_relief_wake(relief, PWS_RELIEF_LOOKS);
    }
}

/* An executor goes into the app for `x`, with the lease about to be dropped, or dropped
 * already. */
static inline void
pws_relief_enter_call(pws_relief *relief, pws_call *call, pws_exchange *x)
{
    uint32_t turn = atomic_load_explicit(&call->turn, memory_order_relaxed);

    atomic_store_explicit(&call->x, x, memory_order_relaxed);
    atomic_store(&call->turn, (turn + 2) | 1);
    if (atomic_load(&relief->word) == PWS_RELIEF_RESTS) {
        pws_relief_wake(relief, PWS_RELIEF_WATCHES);
    }
}

static inline void
pws_relief_enter(pws_relief *relief, pws_exchange *x)
{
    pws_relief_enter_call(relief, &relief->own, x);
}

/* It is back, and does not have the lease yet; the exchange is still its own. Hosted: a
 * step begins, outside of the app. */
static inline void
pws_relief_leave_call(pws_call *call)
{
    uint32_t turn = atomic_load_explicit(&call->turn, memory_order_relaxed);

    atomic_store(&call->turn, (turn + 2) & ~(uint32_t)1);
}

static inline void
pws_relief_leave(pws_relief *relief)
{
    pws_relief_leave_call(&relief->own);
}

/* Who has left the app wants the lease: if the relief polls, end its wait. */
static inline void
pws_relief_hurry(pws_relief *relief)
{
    if (atomic_load(&relief->word) == PWS_RELIEF_POLLS) {
        pws_relief_wake(relief, PWS_RELIEF_POLLS);
    }
}

/* For a thread of a crew that wants the lease: wait for it, and let the relief know. */
void pws_relief_take_lease(pws_relief *relief);

/* Under the lease: whether the relief has taken a wake-up that was for the executor. */
static inline bool
pws_relief_take_woken(pws_relief *relief)
{
    bool woken = relief->woken;

    relief->woken = false;
    return woken;
}

#endif
