/* threads.h - the executor of workers with several threads: a crew (engine/crew.h) of
 * Python threads, each with a lane of its own.
 *
 * The threads are made by threading.Thread, so that debuggers and thread-locals see
 * real ones, and live for as long as the server serves. The thread that makes them runs
 * no app: it looks after them (warden.h). Threads that are stuck in the app at that end
 * are left behind, with all that they stand on: only the end of the process is theirs
 * too. */
#ifndef PWS_PY_THREADS_H
#define PWS_PY_THREADS_H

#include "py/lane.h"
#include "py/warden.h"

typedef struct pws_threads pws_threads;

/* Start `count` threads, which wait. The engine must not be used by anybody else until
 * pws_threads_free. Returns NULL with an exception set. `config` is copied, and what it
 * borrows must outlive the threads. */
pws_threads *pws_threads_new(const pws_lane_config *config, unsigned count);

/* Serve until config->orders say otherwise. Returns 0, or -1 with an exception set. */
int pws_threads_serve(pws_threads *threads);

/* Who looks after them, to be used instead of that where the calling thread has a loop
 * of its own. Borrowed. */
pws_warden *pws_threads_warden(pws_threads *threads);

/* End them. Returns whether all have ended; else some are left behind, and so must be
 * the engine. */
bool pws_threads_free(pws_threads *threads);

/* Raise `exception` in each thread whose request the master wants to be interrupted; if
 * it has not asked for any, in all that run an app, unless who is late is the loop that
 * the calling thread has. Returns how many there were, or -1 with an exception set. */
int pws_threads_interrupt(pws_threads *threads, PyObject *exception);

#endif
