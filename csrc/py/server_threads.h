/* server_threads.h - the part of a Server that is about its threads.
 *
 * They are made before the worker says that it is ready, so that one that cannot have
 * them says why, and serve once: in serve(), or beside a loop of the main thread,
 * between begin() and end(). Threads that do not end are left behind, and with them the
 * Server and all that it has, to the end of the process. All calls want the GIL. */
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

/* Let them run the app while the calling thread has its own loop: `config` is as above.
 * Returns 0, or -1 with an exception set. Then its warden has the steps. */
int pws_server_begin_threads(pws_server *self, const pws_lane_config *config);

/* Who looks after them; NULL: there are none. Borrowed. */
static inline pws_warden *
pws_server_warden(const pws_server *self)
{
    return self->threads != NULL ? pws_threads_warden(self->threads) : NULL;
}

/* Its method of that name. */
PyObject *pws_server_interrupt(PyObject *self, PyObject *exception);

/* End them, if they are there, or see that some have to be left behind. */
void pws_server_end_threads(pws_server *self);

#endif
