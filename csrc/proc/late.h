/* late.h - what a master does about workers that take too long.
 *
 * Late is who was told to end and has not; who gives no sign for `timeout`, booting, in
 * one app call, forking (a mold) or waiting for something to do (see sign.h); and whose
 * relief says that a request has passed request_timeout. The last two are told of in
 * the log, with what the request is and where all threads are; then the app is
 * interrupted (SIGABRT). If that ends the request, the worker serves its other clients
 * and leaves. If not, its relief is told to answer them, and the worker is killed when
 * nobody waits any more, or at the end of graceful_timeout. It has a successor from the
 * first moment on. A request that is only slow is told of in the same way, once. No
 * step waits for anything: each is taken when the master has woken up and its time has
 * come. */
#ifndef PWS_PROC_LATE_H
#define PWS_PROC_LATE_H

#include "proc/master.h"

/* Do what is due. */
void pws_late_check(pws_master *m);

/* When there is something to do even if nothing happens; PWS_NEVER. Who is idle now
 * cannot be late before a whole timeout has passed. */
int64_t pws_late_due_ms(const pws_master *m, int64_t now_ms);

#endif
