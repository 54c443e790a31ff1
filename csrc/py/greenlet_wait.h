/* greenlet_wait.h - the ways of a lane (lane.h) whose request runs in a greenlet.
 *
 * A greenlet that waits for its client, or for another one to come out of an object of
 * its request, switches to the hub; a step goes on with it. A thread of the app waits
 * for itself. The hub must not wait at all: an exception says so. */
#ifndef PWS_PY_GREENLET_WAIT_H
#define PWS_PY_GREENLET_WAIT_H

#include "py/berth.h"

/* Give the lane these ways; its owner is set to the berth. */
void pws_greenlet_wait_set(pws_lane *lane, pws_berth *berth);

int pws_greenlet_wait(pws_lane *lane, unsigned what, int64_t timeout_ms);

/* Switch to a greenlet, which is kept alive meanwhile. Returns 0, or -1 with the
 * exception that was thrown in here. */
int pws_greenlet_switch(const pws_greenlets *pool, PyObject *greenlet);

/* The same in a step, for a greenlet that may be the app's, or go on with one that is:
 * the exception that such a one ends with comes out here, as the hub is its parent. The
 * host is told of it. Returns 0, or -1 with an exception of the host's. */
int pws_greenlet_go_on(const pws_greenlets *pool, PyObject *greenlet);

/* In a step, without the lease: go on with those that have paused, and with the one
 * whose parking was resumed. Return 0 or -1 with an exception. */
int pws_greenlet_wake_naps(pws_greenlets *pool);
int pws_greenlet_wake_parked(pws_greenlets *pool, pws_parking *parking);

#endif
