/* inline.h - the executor of sync workers: the thread that polls runs the app. */
#ifndef PWS_PY_INLINE_H
#define PWS_PY_INLINE_H

#include "py/lane.h"

/* Serve until lane->config->orders say otherwise. Returns 0, or -1 with an exception
 * set. */
int pws_inline_serve(pws_lane *lane);

/* The wait of an inline lane (see lane.h). Nothing else runs meanwhile: when spooled
 * responses have used up their room, the slowest reader is cut instead; and when other
 * requests wait, a client is waited for no longer than `timeout_ms` in all. */
int pws_inline_wait(pws_lane *lane, unsigned what, int64_t timeout_ms);

#endif
