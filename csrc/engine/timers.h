/* timers.h - deadlines of connections, on a hashed wheel.
 *
 * Setting a deadline that is later than the one before is one store: the timer stays
 * where it is on the wheel and is moved on when its old slot comes round. Precision is
 * one tick (PWS_TICK_MS), never early. A timer is embedded in what it times; the wheel
 * owns nothing. Used under the engine's lease. */
#ifndef PWS_ENGINE_TIMERS_H
#define PWS_ENGINE_TIMERS_H

#include <stdint.h>

#include "base/clock.h"

#define PWS_TICK_MS 250
#define PWS_WHEEL_SLOTS 512

typedef struct pws_timer {
    struct pws_timer *prev, *next; /* NULL when it is on no slot */
    int64_t deadline_ms;           /* PWS_NEVER: not armed */
    int64_t tick;                  /* the slot it is on */
} pws_timer;

typedef struct {
    pws_timer slots[PWS_WHEEL_SLOTS]; /* list heads */
    uint64_t used[PWS_WHEEL_SLOTS / 64];
    int64_t tick; /* the next tick to run */
} pws_timers;

void pws_timers_init(pws_timers *wheel, int64_t now_ms);

/* Arm `timer` for `deadline_ms`, or disarm it with PWS_NEVER. */
void pws_timers_set(pws_timers *wheel, pws_timer *timer, int64_t deadline_ms);

/* Take `timer` off the wheel; needed before its memory goes. */
void pws_timers_remove(pws_timers *wheel, pws_timer *timer);

/* Take off and return one timer whose deadline has passed, or NULL when there is none.
 * Call again until NULL. */
pws_timer *pws_timers_expired(pws_timers *wheel, int64_t now_ms);

/* Milliseconds until pws_timers_expired may have something to do, or -1 for never. */
int pws_timers_wait_ms(const pws_timers *wheel, int64_t now_ms);

#endif
