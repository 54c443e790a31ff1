/* berth_time.h - how long the app takes for the requests in greenlets.
 *
 * A request's time goes on while its greenlet sleeps, and stands still while it waits
 * for its client. The oldest requests are shown on the worker's cell of the board, as
 * many as there are hands. While the hub works, the worker itself finds those that take
 * too long: it interrupts their greenlets, and nobody else is harmed. */
#ifndef PWS_PY_BERTH_TIME_H
#define PWS_PY_BERTH_TIME_H

#include "py/berth.h"

/* The app is about to be called for the request of the berth; it has returned. */
void pws_berth_begin_time(pws_berth *berth);
void pws_berth_end_time(pws_berth *berth);

/* In a step: the request of a berth runs from now on; it has ended, or waits. A hub
 * that is kept busy by it meanwhile is relieved, and seen by the master. */
void pws_berths_enter(pws_greenlets *pool, const pws_berth *berth);
void pws_berths_leave(pws_greenlets *pool);

/* Around a wait for the client; several may overlap. */
void pws_berth_pause_time(pws_berth *berth);
void pws_berth_resume_time(pws_berth *berth);

/* In a step, without the lease: tell of slow requests, answer and interrupt those that
 * are over their time. When it is to be called again is written to pool->runner.due_ms.
 * Returns 0 or -1 with an exception. */
int pws_berths_mind(pws_greenlets *pool);

#endif
