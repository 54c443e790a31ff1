/* greenlet_api.h - the few functions of the package greenlet that we call from C.
 *
 * They are in a table that greenlet publishes as a capsule, for any extension and in
 * the same places since its first versions. Nothing of greenlet is needed to build. */
#ifndef PWS_PY_GREENLET_API_H
#define PWS_PY_GREENLET_API_H

#include <Python.h>

typedef struct {
    PyTypeObject *type;  /* greenlet.greenlet; borrowed */
    PyObject *exit_type; /* greenlet.GreenletExit; borrowed */
    /* greenlet.getcurrent(): a new reference. */
    PyObject *(*current)(void);
    /* greenlet.switch(*args, **kwargs), both may be NULL: what the greenlet is switched
     * back to with, or NULL with what was thrown. Nothing in the C stack may point into
     * that of another greenlet: it is moved away meanwhile. */
    PyObject *(*switch_to)(PyObject *greenlet, PyObject *args, PyObject *kwargs);
    /* greenlet.throw(type, value, traceback), the last two may be NULL. Returns like a
     * switch. */
    PyObject *(*throw_into)(PyObject *greenlet, PyObject *type, PyObject *value,
                            PyObject *traceback);
} pws_greenlet_api;

/* Import greenlet and fill the table. Returns 0, or -1 with an exception set that says
 * what is missing. */
int pws_greenlet_api_load(pws_greenlet_api *api);

#endif
