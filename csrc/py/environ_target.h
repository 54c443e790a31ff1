/* environ_target.h - what the environ says of a request's target. */
#ifndef PWS_PY_ENVIRON_TARGET_H
#define PWS_PY_ENVIRON_TARGET_H

#include "py/lane.h"

/* What an environ says of the target that it was begun with. */
typedef struct {
    bool whole; /* it is the request's */
    bool path;  /* PATH_INFO is its path as it was sent */
    bool query; /* QUERY_STRING is its query */
} pws_target_there;

/* Set RAW_URI, REQUEST_URI, SCRIPT_NAME (when it is not the configured one), PATH_INFO
 * and QUERY_STRING, but for what is there. Returns 0 or -1 with an exception set. */
int pws_environ_set_target(pws_lane *lane, PyObject *env, const pws_request *req,
                           pws_target_there there);

#endif
