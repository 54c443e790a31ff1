/* warden.h - who looks after a crew of threads (threads.h): the main thread, which runs
 * no request.
 *
 * It takes signals and the master's orders, gives the signs of life, begins to drain,
 * and sees the threads out. Between two looks it sleeps until the crew calls for it; or
 * it is a guest in a loop of its thread, asyncio's say, which watches a descriptor (the
 * bell) and asks for a step when that is readable. Who holds that loop up gives no sign
 * of life: the crew serves on, and the master finds it out. All calls want the GIL. */
#ifndef PWS_PY_WARDEN_H
#define PWS_PY_WARDEN_H

#include "engine/crew.h"
#include "py/lane.h"

typedef enum {
    PWS_WARDEN_SERVES,
    PWS_WARDEN_SEES_OUT, /* who has no request leaves */
    PWS_WARDEN_DONE,     /* all have left, or are not waited for any longer */
} pws_warden_stage;

typedef struct {
    const pws_lane_config *config; /* borrowed, as the crew is */
    pws_crew *crew;
    pws_warden_stage stage;
    bool begun;           /* the crew has */
    bool sent_home;       /* the crew was told to end */
    bool stepping;        /* a step is underway */
    int64_t last_ms;      /* when the last ones are not waited for any longer */
    unsigned long thread; /* of a guest */
    pws_poller bell;      /* nothing but an eventfd and a timerfd; closed: no guest */
} pws_warden;

void pws_warden_init(pws_warden *warden, const pws_lane_config *config, pws_crew *crew);

/* Let the crew begin, and look after it until config->orders say otherwise and it has
 * left. Returns 0, or -1 with an exception set. */
int pws_warden_serve(pws_warden *warden);

/* The same as a guest: begin; step whenever the bell is readable, in the same thread,
 * until the stage is DONE. Each returns 0 (a step, 1 when the next one is due at once),
 * or -1 with an exception set. */
int pws_warden_begin(pws_warden *warden);
int pws_warden_step(pws_warden *warden);

/* Whether it is one. */
static inline bool
pws_warden_is_guest(const pws_warden *warden)
{
    return warden->crew->bell != NULL;
}

/* Orders have changed. */
static inline void
pws_warden_call(const pws_warden *warden)
{
    pws_crew_call(warden->crew);
}

/* Whatever there was: who has no request is to leave, and nobody waits for a client any
 * more. Idempotent. */
void pws_warden_send_home(pws_warden *warden);

/* When the crew has left and the relief has ended; or in a forked child, whose copies
 * of the bell are closed. */
void pws_warden_close(pws_warden *warden);

#endif
