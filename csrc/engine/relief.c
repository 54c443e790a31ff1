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
#include "engine/engine.h"
#include "engine/give_up.h"

#define MS_IN_NS (1000 * 1000)
#define LOOK_EVERY_NS (1 * MS_IN_NS)
#define WATCH_EVERY_NS (100 * MS_IN_NS)

/* An app call that lasts so long is relieved. */
#define STUCK_MS 100

/* Between two watches, so that a loop which is just about to call is left alone. */
#define HELD_UP_MS 50

/* Looks, or watches, without finding anything after which it does less. */
#define LOOKS_IN_VAIN 100
#define WATCHES_IN_VAIN 10

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

static bool
is_inside(uint32_t turn)
{
    return turn % 2 != 0;
}

/* Do less. What somebody has left or begun meanwhile is seen here, or he sees that we
 * do less and wakes us. */
static void
do_less(pws_relief *relief, uint32_t from, uint32_t to)
{
    if (!atomic_compare_exchange_strong(&relief->word, &from, to)) {
        return;
    }
    if (pws_hold_any(&relief->engine->hold)) {
        pws_relief_wake(relief, PWS_RELIEF_LOOKS);
    }
    else if (atomic_load(&relief->turn) != relief->seen) {
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
        pws_lease_drop(&e->lease);
    }
    return true;
}

/* The master is to look at the cell. A full pipe is fine: it wakes anyway. */
static void
tell(const pws_relief *relief)
{
    while (write(relief->terms.news_fd, "", 1) < 0 && errno == EINTR) {
    }
}

/* Time. The request in hand is hands[0] of the cell: its number and its beginning are
 * there before the turn that goes into the app can be seen. */

/* Milliseconds until the request has taken `limit_ms`; PWS_NEVER without such a limit,
 * or when it has been told already that this has happened. */
static int64_t
left_ms(int64_t limit_ms, int64_t took_ms, bool told)
{
    return limit_ms > 0 && !told ? limit_ms - took_ms : PWS_NEVER;
}

typedef struct {
    uint64_t number;
    int64_t until_slow_ms, until_overdue_ms;
} deadlines;

static deadlines
look_at_time(const pws_relief *relief)
{
    const pws_engine_config *config = relief->engine->config;
    deadlines found = {0, PWS_NEVER, PWS_NEVER};
    const pws_hand *hand;
    int64_t since_ms, took_ms;

    if (relief->terms.cell == NULL) {
        return found;
    }
    hand = &relief->terms.cell->hands[0];
    since_ms = atomic_load(&hand->since_ms);
    if (since_ms <= 0) {
        return found;
    }
    found.number = atomic_load(&hand->sequence);
    took_ms = pws_clock_now_ms() - since_ms;
    found.until_slow_ms = left_ms(config->slow_request_ms, took_ms,
                                  atomic_load(&hand->slow) == found.number);
    found.until_overdue_ms = left_ms(config->request_timeout_ms, took_ms,
                                     atomic_load(&hand->overdue) == found.number);
    return found;
}

/* Say what has become of the request in hand, and answer one that has taken too long.
 * Under the lease, in the turn that the exchange belongs to. Returns the milliseconds
 * after which there is more to do, or -1. */
static int
mind_time(pws_relief *relief)
{
    deadlines left = look_at_time(relief);
    int64_t next_ms = PWS_NEVER;

    if (left.until_slow_ms <= 0) {
        atomic_store(&relief->terms.cell->hands[0].slow, left.number);
        tell(relief);
    }
    else {
        next_ms = left.until_slow_ms;
    }
    if (left.until_overdue_ms <= 0) {
        (void)pws_exchange_answer(atomic_load(&relief->x), 504);
        atomic_store(&relief->terms.cell->leaving, true);
        atomic_store(&relief->terms.cell->hands[0].overdue, left.number);
        tell(relief);
    }
    else if (left.until_overdue_ms < next_ms) {
        next_ms = left.until_overdue_ms;
    }
    return next_ms < 3600000 ? (int)next_ms : -1;
}

/* Whether to give up what the app has in hand now. The order may be for a request that
 * has ended since; then it is no order any more. */
static bool
must_give_up(pws_relief *relief, unsigned letters)
{
    const pws_relief_terms *terms = &relief->terms;
    uint64_t wanted;

    if ((letters & terms->give_up_letters) == 0 || terms->cell == NULL) {
        return false;
    }
    wanted = atomic_load(&terms->cell->hands[0].given_up);
    if (wanted == PWS_HAND_ANY ||
        wanted == atomic_load(&terms->cell->hands[0].sequence)) {
        return true;
    }
    relief->engine->poller.letters &= ~terms->give_up_letters;
    relief->letters &= ~terms->give_up_letters;
    return false;
}

/* What the master wants of a worker whose app may never come back. All letters are the
 * executor's too, who heeds them when it can. */
static void
heed_letters(pws_relief *relief, pws_exchange *x)
{
    const pws_relief_terms *terms = &relief->terms;
    pws_engine *e = relief->engine;
    unsigned letters = e->poller.letters | relief->letters;

    if ((letters & (terms->drain_letters | terms->give_up_letters)) != 0) {
        pws_engine_announce_drain(e);
    }
    if (!must_give_up(relief, letters)) {
        return;
    }
    if (!relief->gives_up) {
        relief->gives_up = true;
        if (x != NULL) {
            (void)pws_exchange_answer(x, 504);
        }
        pws_give_up_begin(e);
    }
    pws_give_up_queue(e);
    if (!atomic_load(&terms->cell->deserted) && pws_give_up_is_done(e)) {
        atomic_store(&terms->cell->deserted, true);
        tell(relief);
    }
}

/* Whether the executor is still in the app, and nobody wants us to stop. */
static bool
goes_on(pws_relief *relief, uint32_t turn)
{
    return atomic_load(&relief->turn) == turn && atomic_load(&relief->paused) == 0 &&
           atomic_load(&relief->word) == PWS_RELIEF_POLLS;
}

static void
show(const pws_relief *relief, bool relieved)
{
    pws_cell *cell = relief->terms.cell;

    if (cell != NULL) {
        atomic_store(&cell->deserted, false);
        atomic_store(&cell->relieved, relieved);
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
    pws_exchange *x = atomic_load(&relief->x);
    uint32_t word = atomic_load(&relief->word);

    while (word < PWS_RELIEF_POLLS &&
           !atomic_compare_exchange_strong(&relief->word, &word, PWS_RELIEF_POLLS)) {
    }
    pws_accept_suspend(e);
    show(relief, true);
    while (goes_on(relief, turn)) {
        int wait_ms;

        pws_hold_send_lent(&e->hold);
        heed_letters(relief, x);
        wait_ms = mind_time(relief);
        (void)pws_exchange_answer_more(x);
        if (pws_engine_relieve(e, wait_ms) < 0) {
            break;
        }
        relief->woken = relief->woken || e->poller.woken;
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
        relief->woken = relief->woken || e->poller.woken;
    }
    pws_accept_resume(e);
}

static bool
is_time(const pws_relief *relief, int64_t now_ms)
{
    deadlines left;

    if (now_ms - relief->seen_ms >= STUCK_MS) {
        return true;
    }
    left = look_at_time(relief);
    return left.until_slow_ms <= 0 || left.until_overdue_ms <= 0;
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
    heed_letters(relief, NULL);
    if (pws_engine_relieve(e, 0) == 0) {
        relief->woken = relief->woken || e->poller.woken;
    }
    heed_letters(relief, NULL);
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
    uint32_t turn = atomic_load(&relief->turn);
    int64_t now_ms = pws_clock_now_ms();
    bool moved = turn != relief->seen;

    if (moved) {
        relief->seen = turn;
        relief->seen_ms = now_ms;
        stand_back(relief);
    }
    else if (!is_inside(turn)) {
        return watch_loop(relief, now_ms);
    }
    if (is_inside(turn) && is_time(relief, now_ms) &&
        pws_lease_try_take(&relief->engine->lease)) {
        relieve(relief, turn);
        pws_lease_drop(&relief->engine->lease);
    }
    return moved || is_inside(turn);
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
        watched = watch(relief);
    }
    atomic_store(&relief->busy, false);
    return for_held ? held : held || watched;
}

static void *
run(void *arg)
{
    pws_relief *relief = arg;
    unsigned in_vain = 0;

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
            sleep_while(relief, word, LOOK_EVERY_NS);
            in_vain = take_turn(relief, true) ? 0 : in_vain + 1;
            if (in_vain >= LOOKS_IN_VAIN) {
                do_less(relief, word, PWS_RELIEF_WATCHES);
                in_vain = 0;
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
    atomic_store(&relief->word, PWS_RELIEF_RESTS);
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
pws_relief_pause(pws_relief *relief)
{
    atomic_fetch_add(&relief->paused, 1);
    if (!relief->running) {
        return;
    }
    if (atomic_load(&relief->word) == PWS_RELIEF_POLLS) {
        pws_poller_wake(&relief->engine->poller);
    }
    while (atomic_load(&relief->busy)) {
        sched_yield();
    }
}

void
pws_relief_go_on(pws_relief *relief)
{
    atomic_fetch_sub(&relief->paused, 1);
}

void
pws_relief_abandon(pws_relief *relief)
{
    relief->running = false;
    close_bell(relief);
    atomic_store(&relief->paused, 0);
    atomic_store(&relief->busy, false);
    atomic_store(&relief->word, PWS_RELIEF_LOOKS); /* there is nobody to wake */
}
