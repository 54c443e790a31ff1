/* environ.h - the WSGI environ (PEP 3333) of a request. */
#ifndef PWS_PY_ENVIRON_H
#define PWS_PY_ENVIRON_H

#include "py/lane.h"

/* A new dict with all that does not change from request to request of a listener.
 * Returns NULL with an exception set. */
PyObject *pws_environ_template(const pws_lane *lane, const pws_listener *listener);

/* A new environ for the request in hand, or NULL with an exception set. */
PyObject *pws_environ_new(pws_lane *lane);

#endif
