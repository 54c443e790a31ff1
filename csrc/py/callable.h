/* callable.h - the functions that an app is handed: start_response, write, early_hints.
 *
 * One type for the three: what differs is the C function behind them. Each raises when
 * its request has ended. */
#ifndef PWS_PY_CALLABLE_H
#define PWS_PY_CALLABLE_H

#include "py/lane.h"

extern PyType_Spec pws_request_callable_spec;

/* New references, attached to nothing. */
PyObject *pws_start_response_new(pws_module *module);
PyObject *pws_write_new(pws_module *module);
PyObject *pws_early_hints_new(pws_module *module);

/* Attach to a lane, or detach with NULL. */
void pws_callable_attach(PyObject *self, pws_lane *lane);

#endif
