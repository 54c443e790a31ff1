/* process.h - what a process does to itself, for Python: pid file, daemon, user, title.
 */
#ifndef PWS_PY_PROCESS_H
#define PWS_PY_PROCESS_H

#include "py/module.h"

extern PyType_Spec pws_pidfile_spec;
extern PyMethodDef pws_process_methods[];

#endif
