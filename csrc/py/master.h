/* master.h - the master of proc/ as a Python object, and what ties a worker to it. */
#ifndef PWS_PY_MASTER_H
#define PWS_PY_MASTER_H

#include "py/module.h"

#include "proc/master.h"

extern PyType_Spec pws_master_spec;

/* The master that `object`, a Master in a worker, has forked us from. Borrowed; NULL
 * with an exception set when this process is no worker of it. */
const pws_master *pws_master_of_worker(PyObject *object);

#endif
