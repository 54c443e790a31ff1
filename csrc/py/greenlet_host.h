/* greenlet_host.h - what the runner of greenlets (greenlets.h) asks of the loop that it
 * is hosted in.
 *
 * The host is an object with these attributes, which are read once:
 *
 *   hub             the greenlet that runs the host's loop, and calls the steps
 *   connections     how many requests there may be at a time
 *   make(run)       a new greenlet that will call run(), whose parent is the hub
 *   settle()        what such a greenlet calls first of all, before it has any frame
 *                   of Python's
 *   forget(g)       the request in the greenlet has ended, and has left something in
 *                   the greenlet's __dict__
 *   late(g, overdue, text)
 *                   say that the request of this greenlet is slow or overdue, and where
 *                   it is; the text is "GET /path, 1.2 s"
 *   overdue(g)      request_timeout is over: interrupt it, in a turn of the loop
 *   call_off(g)     the server's time is over: likewise
 *   stray(error)    what a greenlet of the app's has ended with, that a step has gone
 *                   on with; raises what is the hub's business
 *   look()          many requests have ended since the last step, outside of one: take
 *                   another one before the others that are due go on; None: the hub is
 *                   not asked. It is not asked again before that step.
 *
 * None of them may switch to another greenlet, but for forget.
 */
#ifndef PWS_PY_GREENLET_HOST_H
#define PWS_PY_GREENLET_HOST_H

#include "py/berth.h"

/* Read the attributes. Returns 0 or -1 with an exception; what was read is to be
 * cleared in both cases. */
int pws_greenlet_host_read(pws_greenlets *pool, PyObject *host);
void pws_greenlet_host_clear(pws_greenlets *pool);

/* For a greenlet that has no frame of Python's yet. */
void pws_greenlet_host_settle(const pws_greenlets *pool);

/* The request of a greenlet has ended. */
void pws_greenlet_host_forget(const pws_greenlets *pool, PyObject *greenlet);

/* A request has ended: ask for a step if many have since the last one. */
void pws_greenlet_host_look(pws_greenlets *pool);

#endif
