/* server.h - listeners, engine and an inline executor as one Python object. */
#ifndef PWS_PY_SERVER_H
#define PWS_PY_SERVER_H

#include "py/module.h"

extern PyType_Spec pws_server_spec;

#endif
