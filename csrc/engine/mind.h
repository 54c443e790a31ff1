/* mind.h - the time that app calls take, which the relief minds for their executors.
 *
 * Only with a master, on whose board the calls are shown, and within limits of the
 * engine's configuration (request_timeout, slow_request_timeout). */
#ifndef PWS_ENGINE_MIND_H
#define PWS_ENGINE_MIND_H

#include "engine/relief.h"

/* Whether the executor is in the app. */
static inline bool
pws_call_is_inside(const pws_call *call)
{
    return atomic_load(&call->turn) % 2 != 0;
}

/* Whether the time of a call is over, and nobody has said so. Without the lease. */
bool pws_mind_is_due(const pws_relief *relief, const pws_call *call);

/* Under the lease: tell of those whose time is over, answer for them, and send more of
 * such answers. Returns the milliseconds after which there is more to do, or -1. */
int pws_mind_all(pws_relief *relief);

/* The master is to look at the cell. */
void pws_mind_tell(const pws_relief *relief);

#endif
