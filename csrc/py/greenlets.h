/* greenlets.h - a runner (hosted.h) that runs each request in a greenlet.
 *
 * A request is handed to a pooled greenlet by a switch out of the host's step. When the
 * app blocks in the host's ways (gevent, eventlet) its greenlet switches to the hub,
 * which is to say back into the step, and is gone on with by the hub. A wait for the
 * client parks the exchange (park.h), and a later step goes on with it. When a request
 * has ended, its greenlet is used for the next one, unless somebody still refers to it:
 * what he does to it was meant for that request.
 *
 * A request has a berth: a lane, and the greenlet that lies there. Berths are made when
 * they are needed, up to a bound, and those that a burst has left behind are let go of.
 * Nothing points into the C stack of a greenlet, which is moved away while another one
 * runs; no lock and no lease is held over a switch. */
#ifndef PWS_PY_GREENLETS_H
#define PWS_PY_GREENLETS_H

#include "py/hosted.h"

/* A runner for an engine that is about to begin, or NULL with an exception set. `host`
 * has these attributes, which are read once:
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
 *                   another one before the others that are due go on; None if the hub
 *                   cannot. It is not asked again before that step.
 *
 * None of them may switch to another greenlet, but for forget.
 */
pws_runner *pws_greenlets_runner_new(pws_hosted *h, PyObject *host);

/* Ask the requests in hand to end, those that were not asked before. Returns how many
 * are in hand still, or cleaned up. For a runner of this kind. */
unsigned pws_greenlets_call_off(pws_runner *runner);

#endif
