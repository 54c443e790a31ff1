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

/* A runner for an engine that is about to begin, or NULL with an exception set. What
 * `host` has to have: greenlet_host.h. */
pws_runner *pws_greenlets_runner_new(pws_hosted *h, PyObject *host);

/* Ask the requests in hand to end, those that were not asked before. Returns how many
 * are in hand still, or cleaned up. For a runner of this kind. */
unsigned pws_greenlets_call_off(pws_runner *runner);

#endif
