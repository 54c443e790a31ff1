/* evict.h - who is let go of when something of the engine is used up.
 *
 * Connections that wait for their clients hold slots and spooled responses. When all
 * are taken, those who make no use of them give way to new ones: a client cannot shut
 * others out by being slow. A request that an app has, or that waits for one, is never
 * touched. All of it is in the log, now and then. */
#ifndef PWS_ENGINE_EVICT_H
#define PWS_ENGINE_EVICT_H

#include "engine/engine.h"

/* worker_connections, or descriptors, are all in use: close some that have been without
 * a whole request for a second or more, the longest first, but for those whose request
 * has come and was not read yet; or, when there are none, the slowest client that moves
 * less than 4 KiB a second. Returns how many were closed. */
unsigned pws_evict_for_slot(pws_engine *e);

/* The files of responses take all that they may: cut the slowest reader that has one.
 * Returns whether there was any. */
bool pws_evict_for_spool(pws_engine *e);

#endif
