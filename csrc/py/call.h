/* call.h - one request through the app: environ, call, response, close, errors. */
#ifndef PWS_PY_CALL_H
#define PWS_PY_CALL_H

#include "py/lane.h"

/* Run the app for `x`, in a context of its own (contextvars), and give `x` its whole
 * answer: the app's, or a logged 500. Every exception ends here. The exchange is still
 * the caller's to give back. */
void pws_call_app(pws_lane *lane, pws_exchange *x);

/* Log the exception that is set, with a traceback, and clear it. */
void pws_call_log_exception(pws_lane *lane, const char *what);

/* "GET /path", not longer than a line of a log should be. Returns `name`. */
#define PWS_CALL_NAME_ROOM 960
const char *pws_call_name_request(const pws_request *req,
                                  char name[PWS_CALL_NAME_ROOM]);

#endif
