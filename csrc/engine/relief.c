#include "engine/relief.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/accept.h"
#include "engine/crew.h"
#include "engine/engine.h"
#include "engine/letters.h"
#include "engine/mind.h"

#define MS_IN_NS (1000 * 1000)

/* For what is held, which is mostly sent before by who holds it: each look may take the
 * processor from him. */
#define LOOK_EVERY_NS (4 * MS_IN_NS)
#define WATCH_EVERY_NS (100 * MS_IN_NS)

/* A crew is without a leader for twice that time at most. */
#define LOOK_AT_CREW_EVERY_NS (250 * 1000)

/* An app call that lasts so long is relieved. */
#define STUCK_MS 100

/* Between two watches, so that a loop which is just about to call is left alone. */
#define HELD_UP_MS 50

/* Looks, or watches, without finding anything after which it does less. */
#define LOOKS_IN_VAIN 25
#define LOOKS_AT_CREW_IN_VAIN 2 /* to be woken costs an executor as much */
#define WATCHES_IN_VAIN 10

/* Who is woken as seldom as that looks once: requests do not come in quick succession.
 */
#define SELDOM_NS (2 * MS_IN_NS)

/* How often the time of all calls of a crew is looked at; the same while we poll. */
#define MIND_EVERY_MS 50
#define WATCH_CREW_MS 100

/* Hosted. The same as sleep_while; who rests looks at what the loop is shown. */
static void
doze_while(pws_relief *relief, uint32_t value, long ns)
{
    struct pollfd fds[2] = {{.fd = relief->bell, .events = POLLIN},
                            {.fd = relief->engine->poller.fd, .events = POLLIN}};
    eventfd_t rings;

    if (atomic_load(&relief->word) != value) {
        return;
    }
    if (poll(fds, ns > 0 ? 1 : 2, ns > 0 ? (int)(ns / MS_IN_NS) : -1) <= 0) {
        return;
    }
    if (fds[0].revents != 0) {
        (void)eventfd_read(relief->bell, &rings);
    }
    else {
        pws_relief_wake(relief, PWS_RELIEF_WATCHES);
    }
}

/* Sleep while the word is `value`, for `ns` at most; 0: without end. */
static void
sleep_while(pws_relief *relief, uint32_t value, long ns)
{
    const struct timespec time = {0, ns};

    if (relief->bell >= 0) {
        doze_while(relief, value, ns);
        return;
    }
    syscall(SYS_futex, (void *)&relief->word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value,
            ns > 0 ? &time : NULL, NULL, 0);
}

static void
wake_thread(pws_relief *relief)
{
    if (relief->bell >= 0) {
        (void)eventfd_write(relief->bell, 1);
        return;
    }
    syscall(SYS_futex, (void *)&relief->word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL,
            NULL, 0);
}

void
pws_relief_wake(pws_relief *relief, uint32_t to)
{
    uint32_t word = atomic_load(&relief->word);

    while (word < to) {
        if (atomic_compare_exchange_strong(&relief->word, &word, to)) {
            wake_thread(relief);
            return;
        }
    }
    if (word == PWS_RELIEF_POLLS) {
        pws_poller_wake(&relief->engine->poller);
    }
}

/* What changes when requests come or go. */
static uint32_t
progress(const pws_relief *relief)
{
    return relief->crew != NULL ? atomic_load(&relief->crew->moves)
                                : atomic_load(&relief->own.turn);
}

/* Do less. What somebody has left or begun meanwhile is seen here, or he sees that we
 * do less and wakes us. */
static void
do_less(pws_relief *relief, uint32_t from, uint32_t to)
{
    if (!atomic_compare_exchange_strong(&relief->word, &from, to)) {
        return;
    }
    if (pws_hold_any(&relief->engine->hold) ||
        (relief->crew != NULL && atomic_load(&relief->crew->vacant))) {
        pws_relief_wake(relief, PWS_RELIEF_LOOKS);
    }
    else if (progress(relief) != relief->seen) {
        pws_relief_wake(relief, PWS_RELIEF_WATCHES);
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
        pws_engine_rouse(e);
        pws_lease_drop(&e->lease);
    }
    return true;
}

/* Whether the executors are still in their apps, and nobody wants us to stop. */
static bool
goes_on(pws_relief *relief, uint32_t turn)
{
    bool alone = relief->crew != NULL ? atomic_load(&relief->wanted) == 0
                                      : atomic_load(&relief->own.turn) == turn;

    return alone && atomic_load(&relief->paused) == 0 &&
           atomic_load(&relief->word) == PWS_RELIEF_POLLS;
}

/* A crew that has to give up is looked after by its leader too. */
static void
show(const pws_relief *relief, bool relieved)
{
    pws_cell *cell = relief->terms.cell;

    if (relief->crew != NULL &&
        (relief->letters & relief->terms.give_up_letters) != 0) {
        relieved = true;
    }
    if (cell != NULL) {
        atomic_store(&cell->deserted, false);
        atomic_store(&cell->relieved, relieved);
    }
}

/* A wake-up was for the executor, or who looks after the crew; orders are his too. */
static void
note_woken(pws_relief *relief)
{
    const pws_poller *poller = &relief->engine->poller;

    if (relief->crew == NULL) {
        relief->woken = relief->woken || poller->woken;
    }
    else if (poller->woken || poller->owes_sign) {
        pws_crew_call(relief->crew);
    }
}

/* Poll in place of the executor, which is in the app. With the lease.
 *
 * The exchange in hand cannot be taken back, nor used again, before somebody with the
 * lease takes hand-backs: we do, in pws_engine_relieve. So it may be touched between
 * the look at the turn and that call. */
static void
relieve(pws_relief *relief, uint32_t turn)
{
    pws_engine *e = relief->engine;
    pws_exchange *x = relief->crew == NULL ? atomic_load(&relief->own.x) : NULL;
    uint32_t word = atomic_load(&relief->word);

    while (word < PWS_RELIEF_POLLS &&
           !atomic_compare_exchange_strong(&relief->word, &word, PWS_RELIEF_POLLS)) {
    }
    pws_accept_suspend(e);
    show(relief, true);
    while (goes_on(relief, turn)) {
        int wait_ms;

        pws_hold_send_lent(&e->hold);
        pws_letters_heed(relief, x);
        wait_ms = pws_mind_all(relief);
        if (relief->crew != NULL && (wait_ms < 0 || wait_ms > WATCH_CREW_MS)) {
            wait_ms = WATCH_CREW_MS; /* its calls change without a word to us */
        }
        if (pws_engine_relieve(e, wait_ms) < 0) {
            break;
        }
        note_woken(relief);
    }
    show(relief, false);
    relief->gives_up = false;
    pws_hold_note(&e->hold, (pws_clock_now_ms() - relief->seen_ms) * MS_IN_NS);
    pws_accept_resume(e);
    if (e->config->hosted) {
        (void)pws_engine_show(e, true, -1);
        pws_poller_wake(&e->poller); /* orders and signals may have come */
    }
    word = PWS_RELIEF_POLLS;
    (void)atomic_compare_exchange_strong(&relief->word, &word, PWS_RELIEF_LOOKS);
}

void
pws_relief_catch_up(pws_relief *relief)
{
    pws_engine *e = relief->engine;

    if (e->queued < 2 || pws_clock_now_ms() - e->clock.now_ms < STUCK_MS) {
        return;
    }
    pws_accept_suspend(e);
    if (pws_engine_relieve(e, 0) == 0) {
        note_woken(relief);
    }
    pws_accept_resume(e);
}

static bool
is_time(const pws_relief *relief, int64_t now_ms)
{
    return now_ms - relief->seen_ms >= STUCK_MS ||
           pws_mind_is_due(relief, &relief->own);
}

/* One turn in place of somebody else's loop, which is held up, and no wait: the set
 * stays readable, for it is the loop that is to see that. With the lease. */
static void
stand_in(pws_relief *relief)
{
    pws_engine *e = relief->engine;

    if (!relief->stands_in) {
        relief->stands_in = true;
        show(relief, true);
    }
    pws_accept_suspend(e);
    e->poller.mute = true;
    pws_letters_heed(relief, NULL);
    if (pws_engine_relieve(e, 0) == 0) {
        relief->woken = relief->woken || e->poller.woken;
    }
    pws_letters_heed(relief, NULL);
    e->poller.mute = false;
    pws_accept_resume(e);
    pws_poller_wake(&e->poller);
}

/* It steps, or has nothing to step for. */
static void
stand_back(pws_relief *relief)
{
    relief->shown_ms = 0;
    if (relief->stands_in) {
        relief->stands_in = false;
        relief->gives_up = false;
        show(relief, false);
    }
}

/* Outside of the app, with no step since the last look: whether somebody else's loop
 * has a reason to call us, and if it has had one for so long, stand in for it. */
static bool
watch_loop(pws_relief *relief, int64_t now_ms)
{
    struct pollfd set = {.fd = relief->engine->poller.fd, .events = POLLIN};

    if (!relief->engine->config->hosted) {
        return false;
    }
    if (poll(&set, 1, 0) <= 0) {
        stand_back(relief);
        return false;
    }
    if (relief->shown_ms == 0) {
        relief->shown_ms = now_ms;
    }
    else if (now_ms - relief->shown_ms >= HELD_UP_MS &&
             pws_lease_try_take(&relief->engine->lease)) {
        stand_in(relief);
        pws_lease_drop(&relief->engine->lease);
    }
    return true;
}

/* Returns whether requests come, or one is in the app. */
static bool
watch(pws_relief *relief)
{
    uint32_t turn = atomic_load(&relief->own.turn);
    int64_t now_ms = pws_clock_now_ms();
    bool moved = turn != relief->seen;

    if (moved) {
        relief->seen = turn;
        relief->seen_ms = now_ms;
        stand_back(relief);
    }
    else if (turn % 2 == 0) {
        return watch_loop(relief, now_ms);
    }
    if (turn % 2 != 0 && is_time(relief, now_ms) &&
        pws_lease_try_take(&relief->engine->lease)) {
        relieve(relief, turn);
        pws_lease_drop(&relief->engine->lease);
    }
    return moved || turn % 2 != 0;
}

/* Whether a call of the crew is inside; whether one of them wants to be minded. */
static bool
look_at_calls(const pws_relief *relief, bool *due)
{
    bool inside = false;

    *due = relief->answering;
    for (unsigned i = 0; i < relief->call_count; i++) {
        const pws_call *call = &relief->calls[i];

        if (pws_call_is_inside(call)) {
            inside = true;
            *due = *due || pws_mind_is_due(relief, call);
        }
    }
    return inside;
}

/* Returns whether there are requests. */
static bool
mind_crew(pws_relief *relief, bool stuck)
{
    bool due, inside = look_at_calls(relief, &due);

    if ((due || stuck) && pws_lease_try_take(&relief->engine->lease)) {
        if (stuck && atomic_load(&relief->crew->unattended)) {
            relieve(relief, 0);
        }
        else {
            (void)pws_mind_all(relief);
        }
        pws_lease_drop(&relief->engine->lease);
    }
    return inside;
}

/* Returns whether there is something that somebody may have to be woken for. */
static bool
watch_crew(pws_relief *relief, bool *watched)
{
    pws_crew *crew = relief->crew;
    uint32_t moves = atomic_load(&crew->moves);
    int64_t now_ms = pws_clock_now_ms();
    bool moved = moves != relief->seen, stuck;
    bool vacant = atomic_load(&crew->vacant);

    if (moved) {
        relief->seen = moves;
        relief->seen_ms = now_ms;
    }
    else if (vacant) {
        (void)pws_crew_promote(crew);
    }
    *watched = *watched || moved || vacant;
    stuck = atomic_load(&crew->stranded) ||
            (now_ms - relief->seen_ms >= STUCK_MS && atomic_load(&crew->unattended));
    if (stuck || now_ms - relief->minded_ms >= MIND_EVERY_MS) {
        relief->minded_ms = now_ms;
        *watched = mind_crew(relief, stuck) || *watched;
    }
    else {
        *watched = true;
    }
    return vacant;
}

/* One look at everything, unless somebody forks. Returns whether there was something of
 * what the thread is awake for. */
static bool
take_turn(pws_relief *relief, bool for_held)
{
    bool held = false, watched = false;

    atomic_store(&relief->busy, true);
    if (atomic_load(&relief->paused) == 0) {
        held = look(relief->engine);
        if (relief->crew != NULL) {
            held = watch_crew(relief, &watched) || held;
        }
        else {
            watched = watch(relief);
        }
    }
    atomic_store(&relief->busy, false);
    return for_held ? held : held || watched;
}

static void *
run(void *arg)
{
    pws_relief *relief = arg;
    const bool crew = relief->crew != NULL;
    const long look_ns = crew ? LOOK_AT_CREW_EVERY_NS : LOOK_EVERY_NS;
    const unsigned looks = crew ? LOOKS_AT_CREW_IN_VAIN : LOOKS_IN_VAIN;
    unsigned in_vain = 0, most = looks;
    int64_t less_ns = 0; /* when it last stopped looking */

    atomic_store(&relief->busy, false);
    for (;;) {
        uint32_t word = atomic_load(&relief->word);

        switch (word) {
        case PWS_RELIEF_ENDS:
            return NULL;
        case PWS_RELIEF_RESTS:
            sleep_while(relief, word, 0);
            in_vain = 0;
            break;
        case PWS_RELIEF_WATCHES:
            sleep_while(relief, word, WATCH_EVERY_NS);
            in_vain = take_turn(relief, false) ? 0 : in_vain + 1;
            if (in_vain >= WATCHES_IN_VAIN) {
                do_less(relief, word, PWS_RELIEF_RESTS);
            }
            break;
        default:
            if (crew && less_ns != 0) {
                most = pws_clock_ns() - less_ns > SELDOM_NS ? 1 : looks;
                in_vain = 0;
                less_ns = 0;
            }
            sleep_while(relief, word, look_ns);
            in_vain = take_turn(relief, true) ? 0 : in_vain + 1;
            if (in_vain >= most) {
                do_less(relief, word, PWS_RELIEF_WATCHES);
                in_vain = 0;
                less_ns = pws_clock_ns();
            }
        }
    }
}

static void
close_bell(pws_relief *relief)
{
    if (relief->bell >= 0) {
        close(relief->bell);
        relief->bell = -1;
    }
}

int
pws_relief_start(pws_relief *relief, pws_engine *e)
{
    sigset_t all, before;
    int error;

    relief->engine = e;
    relief->seen_ms = pws_clock_now_ms();
    relief->bell = -1;
    if (e->config->hosted) {
        relief->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (relief->bell < 0) {
            return -1;
        }
    }
    if (relief->crew == NULL) {
        relief->own.hand =
            relief->terms.cell != NULL ? &relief->terms.cell->hands[0] : NULL;
        relief->calls = &relief->own;
        relief->call_count = 1;
    }
    atomic_store(&relief->word, PWS_RELIEF_RESTS);
    atomic_store(&relief->busy, true); /* a fork waits for it to have begun */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&relief->thread, NULL, run, relief);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    relief->running = error == 0;
    if (!relief->running) {
        close_bell(relief);
    }
    errno = error;
    return error == 0 ? 0 : -1;
}

void
pws_relief_end(pws_relief *relief)
{
    if (relief->running) {
        atomic_store(&relief->word, PWS_RELIEF_ENDS);
        wake_thread(relief);
        pws_poller_wake(&relief->engine->poller);
        pthread_join(relief->thread, NULL);
        relief->running = false;
        close_bell(relief);
    }
}

void
pws_relief_take_lease(pws_relief *relief)
{
    atomic_fetch_add(&relief->wanted, 1);
    pws_relief_hurry(relief);
    pws_lease_take(&relief->engine->lease);
    atomic_fetch_sub(&relief->wanted, 1);
}

void
pws_relief_pause(pws_relief *relief)
{
    atomic_fetch_add(&relief->paused, 1);
    if (relief->running && atomic_load(&relief->word) == PWS_RELIEF_POLLS) {
        pws_poller_wake(&relief->engine->poller);
    }
    while (relief->running && atomic_load(&relief->busy)) {
        sched_yield();
    }
    if (relief->crew != NULL) { /* its threads poll too: the lease keeps them from it */
        pthread_mutex_lock(&relief->lock);
        if (!relief->holds) {
            pws_relief_take_lease(relief);
            relief->holds = true;
        }
        pthread_mutex_unlock(&relief->lock);
    }
}

/* The last one lets the crew go: one may have come since the first. A fork that could
 * not pause all it wanted to lets go of more than it has. */
void
pws_relief_go_on(pws_relief *relief)
{
    pthread_mutex_lock(&relief->lock);
    if (atomic_load(&relief->paused) > 0 && atomic_fetch_sub(&relief->paused, 1) == 1 &&
        relief->holds) {
        relief->holds = false;
        pws_lease_drop(&relief->engine->lease);
    }
    pthread_mutex_unlock(&relief->lock);
}

void
pws_relief_abandon(pws_relief *relief)
{
    relief->running = false;
    close_bell(relief);
    relief->crew = NULL; /* its threads are the parent's */
    relief->holds = false;
    pthread_mutex_init(&relief->lock, NULL);
    atomic_store(&relief->paused, 0);
    atomic_store(&relief->busy, false);
    atomic_store(&relief->word, PWS_RELIEF_LOOKS); /* there is nobody to wake */
}
