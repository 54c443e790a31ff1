/* environ.h - the WSGI environ (PEP 3333) of a request. */
#ifndef PWS_PY_ENVIRON_H
#define PWS_PY_ENVIRON_H

#include "py/lane.h"

/* A new dict with all that does not change from request to request of a listener.
 * Returns NULL with an exception set. */
PyObject *pws_environ_template(const pws_lane *lane, const pws_listener *listener);

/* Let malloc have some tables of the size of the template's copies ready, of which it
 * hands one out again and again. Else it may have none, and give each request one that
 * is a bit larger, which then goes back to where it is not looked for: that takes five
 * times as long. */
void pws_environ_have_ready(PyObject *template);

/* Put the objects of this lane into an environ that has others of their kind. Returns 0
 * or -1 with an exception set. */
int pws_environ_set_own(const pws_lane *lane, PyObject *env);

/* A new environ for the request in hand, or NULL with an exception set. */
PyObject *pws_environ_new(pws_lane *lane);

#endif
