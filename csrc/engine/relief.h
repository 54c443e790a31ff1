/* relief.h - a thread without Python that looks after an engine while an app is slow.
 *
 * The executor drops the lease while an app runs. Whoever leaves something behind that
 * must not wait for the app's end arms the relief; it then looks, a thousand times a
 * second, and sends what is overdue as soon as it can have the lease. After a tenth of
 * a second with nothing to do it sleeps until it is armed again. It never waits for the
 * lease, and knows neither Python nor signals. */
#ifndef PWS_ENGINE_RELIEF_H
#define PWS_ENGINE_RELIEF_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct pws_engine pws_engine;

typedef struct {
    pws_engine *engine;
    pthread_t thread;
    bool running;
    _Atomic uint32_t word; /* what it does, and the futex that it sleeps on */
} pws_relief;

enum {
    PWS_RELIEF_RESTS,
    PWS_RELIEF_LOOKS,
    PWS_RELIEF_ENDS,
};

/* Start the thread. Returns 0, or -1 with errno. */
int pws_relief_start(pws_relief *relief, pws_engine *e);

/* End it, if it runs, and wait for its end. Call it without the lease. */
void pws_relief_end(pws_relief *relief);

/* For pws_relief_arm. */
void pws_relief_wake(pws_relief *relief);

/* There is something to look after: call it after that can be seen. */
static inline void
pws_relief_arm(pws_relief *relief)
{
    if (atomic_load(&relief->word) == PWS_RELIEF_RESTS) {
        pws_relief_wake(relief);
    }
}

#endif
