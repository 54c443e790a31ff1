/* server_threads.h - the part of a Server that is about its threads.
 *
 * They are made before the worker says that it is ready, so that one that cannot have
 * them says why, and serve once. Threads that do not end are left behind, and with them
 * the Server and all that it has, to the end of the process. All calls want the GIL. */
#ifndef PWS_PY_SERVER_THREADS_H
#define PWS_PY_SERVER_THREADS_H

#include "py/server.h"

/* Whether the settings want several threads to run the app. */
bool pws_server_wants_threads(const pws_server *self);

/* Make them, unless they are there; `config` is for the app that they are to run.
 * Returns 0, or -1 with an exception set. */
int pws_server_make_threads(pws_server *self, const pws_lane_config *config);

/* Make them, unless they are there, and let them run the app until the server has
 * stopped. Returns 0, or -1 with an exception set. */
int pws_server_serve_threads(pws_server *self, const pws_lane_config *config);

/* End them, if they are there, or see that some have to be left behind. */
void pws_server_end_threads(pws_server *self);

#endif
