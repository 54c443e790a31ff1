/* environ_target.h - what the environ says of a request's target. */
#ifndef PWS_PY_ENVIRON_TARGET_H
#define PWS_PY_ENVIRON_TARGET_H

#include "py/lane.h"

/* Set RAW_URI, REQUEST_URI, SCRIPT_NAME (when it is not the configured one), PATH_INFO
 * and QUERY_STRING. Returns 0 or -1 with an exception set. */
int pws_environ_set_target(pws_lane *lane, PyObject *env, const pws_request *req);

#endif
