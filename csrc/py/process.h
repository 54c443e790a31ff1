/* process.h - what a process does to itself, for Python: pid file, daemon, user, title.
 */
#ifndef PWS_PY_PROCESS_H
#define PWS_PY_PROCESS_H

#include "py/module.h"

extern PyType_Spec pws_pidfile_spec;
extern PyMethodDef pws_process_methods[];

/* fork(2), and what Python does around it. The GIL is held. */
pid_t pws_process_fork(void);

#endif
