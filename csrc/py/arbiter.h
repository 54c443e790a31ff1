/* arbiter.h - the Python object that decides for a master: see Arbiter in master.py.
 *
 * What the master's loop asks and tells become calls of its methods. An exception that
 * one of them lets out goes to stderr, since the loop must go on. */
#ifndef PWS_PY_ARBITER_H
#define PWS_PY_ARBITER_H

#include "py/module.h"

#include "proc/master.h"
#include "py/listeners.h"

/* The context of the calls. */
typedef struct {
    PyObject *object;
    PyThreadState *thread;    /* while others may run */
    pws_listeners *listeners; /* of the master, which owns a reference */
} pws_arbiter;

extern const pws_master_calls pws_arbiter_calls;

/* One of them, for molds, which fork too. */
int pws_arbiter_before_fork(void *context, unsigned number);

/* The settings of a master from an object with attributes: Timing in master.py. Returns
 * 0, or -1 with an exception. */
int pws_arbiter_settings(PyObject *values, pws_master_settings *settings);

#endif
