/* hosted.h - an engine in somebody else's loop.
 *
 * The host watches the descriptor of the engine's set (its kernel events, deadlines and
 * backlog: see poller.h) and calls pws_hosted_step when it is readable. A step takes
 * orders, moves connections on and runs what is complete, for about a millisecond; what
 * is left is shown on the descriptor, so that the host runs others in between and comes
 * back. Nothing here waits but for the lease, and the lease is never held while Python
 * runs. How an app is run is up to a runner: inline in the step, or in a greenlet that
 * may go on after it. All of it belongs to one thread, with the GIL held. */
#ifndef PWS_PY_HOSTED_H
#define PWS_PY_HOSTED_H

#include "py/lane.h"

typedef struct pws_runner pws_runner;
typedef struct pws_hosted pws_hosted;

/* How apps are run. A runner embeds this, and owns its lanes. */
struct pws_runner {
    /* Run the app for `x`, or as much of it as can be run now, without the lease.
     * Returns 0: it has ended and is given back, or will be by pws_hosted_done; or -1
     * with an exception set, which ends the step, and `x` given back. */
    int (*run)(pws_runner *self, pws_exchange *x);
    /* Whether one more can be run. When this turns true outside of a step, the runner
     * says so by pws_hosted_look. */
    bool (*may_run)(const pws_runner *self);
    /* Go on with the request whose parking (park.h) was resumed, without the lease.
     * NULL: it parks none. Returns like run. */
    int (*go_on)(pws_runner *self, pws_parking *parking);
    /* At the beginning of each step, without the lease: what the runner itself has to
     * do. NULL: nothing. Returns 0 or -1 with an exception set. */
    int (*look_around)(pws_runner *self);
    /* In a forked child, in the execution that has forked. NULL: it need not know. */
    void (*abandon)(pws_runner *self);
    /* End it: no app runs any more afterwards. */
    void (*free)(pws_runner *self);
    /* When the next step is to come at the latest, as pws_clock_now_ms() has it;
     * PWS_NEVER: no matter. */
    int64_t due_ms;
    bool
        crowded; /* many requests are in hand, so that the next one is to hold little */
};

struct pws_hosted {
    pws_lane_config config; /* for the lanes of the runner; its app is owned */
    pws_runner *runner;     /* NULL: it does not serve */
    unsigned long thread;
    bool stepping;    /* a step is underway */
    bool done;        /* there is no more to do for it */
    bool left_behind; /* by the runner: requests that did not end, whose executions may
                         go on one day: all that they know must stay */
};

/* Begin to serve, with its `config` set: takes the runner, which was made for that, and
 * starts the relief. */
void pws_hosted_begin(pws_hosted *h, pws_runner *runner);

/* One step. From within an app that runs its loop nested, connections are moved on, and
 * no other app is run. Returns 1 when more can be done at once (the descriptor shows
 * it), 0 when not, -1 with an exception set. */
int pws_hosted_step(pws_hosted *h);

/* Take the engine's lease, from the relief if need be, which sees that the thread of
 * the loop is not held up any more. With the GIL, from any thread; not in an app call
 * that the relief was told of (pws_relief_enter). */
void pws_hosted_take_lease(pws_hosted *h);

/* The request of `x` has ended: give it back, in a step or outside of one, where its
 * response goes out at once. */
void pws_hosted_done(pws_hosted *h, pws_exchange *x);

/* Outside of a step: let the host call one, to see what has changed. */
void pws_hosted_look(pws_hosted *h);

/* In a forked child, where the engine is abandoned. */
void pws_hosted_abandon(pws_hosted *h);

/* End it: runner and relief. For one that has begun; outside of a step. */
void pws_hosted_end(pws_hosted *h);

/* The runner that runs apps in the step: one at a time, to its end. Returns NULL with
 * an exception set. `config` must outlive it. */
pws_runner *pws_inline_runner_new(const pws_lane_config *config);

#endif
