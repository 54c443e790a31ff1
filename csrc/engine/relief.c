#include "engine/relief.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"

#define LOOK_EVERY_NS (1000 * 1000)

/* Looks without finding anything after which it sleeps. */
#define LOOKS_IN_VAIN 100

/* Sleep while the word is `value`; `time` may be NULL: without end. */
static void
sleep_while(pws_relief *relief, uint32_t value, const struct timespec *time)
{
    syscall(SYS_futex, (void *)&relief->word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value,
            time, NULL, 0);
}

static void
wake_thread(pws_relief *relief)
{
    syscall(SYS_futex, (void *)&relief->word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL,
            NULL, 0);
}

/* Nothing was found for a while. What somebody has left meanwhile is seen here, or he
 * sees that we rest and wakes us. */
static void
rest(pws_relief *relief)
{
    uint32_t looks = PWS_RELIEF_LOOKS, rests = PWS_RELIEF_RESTS;

    if (atomic_compare_exchange_strong(&relief->word, &looks, PWS_RELIEF_RESTS) &&
        pws_hold_any(&relief->engine->hold)) {
        atomic_compare_exchange_strong(&relief->word, &rests, PWS_RELIEF_LOOKS);
    }
}

/* Returns whether there was something to look after. */
static bool
look(pws_engine *e)
{
    if (!pws_hold_any(&e->hold)) {
        return false;
    }
    pws_hold_send_lent(&e->hold);
    if (pws_lease_try_take(&e->lease)) {
        pws_hold_send_late(e);
        pws_lease_drop(&e->lease);
    }
    return true;
}

static void *
run(void *arg)
{
    const struct timespec moment = {0, LOOK_EVERY_NS};
    pws_relief *relief = arg;
    unsigned in_vain = 0;

    for (;;) {
        switch (atomic_load(&relief->word)) {
        case PWS_RELIEF_ENDS:
            return NULL;
        case PWS_RELIEF_RESTS:
            sleep_while(relief, PWS_RELIEF_RESTS, NULL);
            in_vain = 0;
            break;
        default:
            sleep_while(relief, PWS_RELIEF_LOOKS, &moment);
            in_vain = look(relief->engine) ? 0 : in_vain + 1;
            if (in_vain >= LOOKS_IN_VAIN) {
                rest(relief);
            }
        }
    }
}

int
pws_relief_start(pws_relief *relief, pws_engine *e)
{
    sigset_t all, before;
    int error;

    relief->engine = e;
    atomic_store(&relief->word, PWS_RELIEF_RESTS);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&relief->thread, NULL, run, relief);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    relief->running = error == 0;
    errno = error;
    return error == 0 ? 0 : -1;
}

void
pws_relief_end(pws_relief *relief)
{
    if (relief->running) {
        atomic_store(&relief->word, PWS_RELIEF_ENDS);
        wake_thread(relief);
        pthread_join(relief->thread, NULL);
        relief->running = false;
    }
}

void
pws_relief_wake(pws_relief *relief)
{
    uint32_t rests = PWS_RELIEF_RESTS;

    if (atomic_compare_exchange_strong(&relief->word, &rests, PWS_RELIEF_LOOKS)) {
        wake_thread(relief);
    }
}
