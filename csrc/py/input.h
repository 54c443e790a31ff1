/* input.h - wsgi.input (PEP 3333): the body of the request in hand. */
#ifndef PWS_PY_INPUT_H
#define PWS_PY_INPUT_H

#include "py/lane.h"

extern PyType_Spec pws_input_spec;

/* A new reference, attached to nothing. */
PyObject *pws_input_new(pws_module *module);

/* Attach to a lane, or detach with NULL. */
void pws_input_attach(PyObject *self, pws_lane *lane);

#endif
