/* inline.h - the executor of sync workers: the thread that polls runs the app. */
#ifndef PWS_PY_INLINE_H
#define PWS_PY_INLINE_H

#include "py/lane.h"

typedef enum {
    PWS_STOP_NOT,
    PWS_STOP_GRACEFUL, /* finish what has begun */
    PWS_STOP_QUICK,    /* finish the app call in hand */
} pws_stop;

/* Serve until *stop says otherwise (set from signal handlers, which run in this thread,
 * or from another thread that wakes the engine then). A graceful stop takes up to
 * `graceful_ms`. Returns 0, or -1 with an exception set. */
int pws_inline_serve(pws_lane *lane, _Atomic int *stop, int64_t graceful_ms);

/* The wait of an inline lane (see lane.h). */
int pws_inline_wait(pws_lane *lane, unsigned what, int64_t timeout_ms);

#endif
