#include "engine/crew.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/accept.h"
#include "engine/engine.h"
#include "engine/letters.h"

/* The number of events in a batch from which on the next poll does not wait: under load
 * something is there already, and the caller's lock need not be given up. */
#define BUSY_BATCH 2

/* Events that a thread takes while another one waits for them. */
#define TRIES_BESIDE 3

/* An app call that takes so long has lasted: while it did, another could have led. */
#define LASTS_NS (200 * 1000)

/* So many lasting calls of 256 (the last ones count most) make it worth while to wake
 * another leader before each call. */
#define MANY_LASTING 64u

static void
sleep_while(_Atomic uint32_t *word, uint32_t value, int timeout_ms)
{
    const struct timespec time = {timeout_ms / 1000,
                                  (long)(timeout_ms % 1000) * 1000 * 1000};

    syscall(SYS_futex, (void *)word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value,
            timeout_ms >= 0 ? &time : NULL, NULL, 0);
}

static void
wake(_Atomic uint32_t *word, int count)
{
    syscall(SYS_futex, (void *)word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL,
            0);
}

int
pws_crew_init(pws_crew *crew, pws_engine *e, unsigned count)
{
    memset(crew, 0, sizeof(*crew));
    crew->engine = e;
    crew->lasts_ns = LASTS_NS;
    crew->count = count;
    crew->seats = calloc(count, sizeof(*crew->seats));
    crew->calls = aligned_alloc(64, count * sizeof(*crew->calls));
    if (crew->seats == NULL || crew->calls == NULL) {
        pws_crew_free(crew);
        errno = ENOMEM;
        return -1;
    }
    memset(crew->calls, 0, count * sizeof(*crew->calls));
    for (unsigned i = 0; i < count; i++) {
        crew->seats[i].call = &crew->calls[i];
    }
    crew->polls = true;
    e->lends_waits = true;
    e->relief.engine = e;
    e->relief.crew = crew;
    e->relief.calls = crew->calls;
    e->relief.call_count = count;
    return 0;
}

void
pws_crew_free(pws_crew *crew)
{
    free(crew->seats);
    free(crew->calls);
    crew->seats = NULL;
    crew->calls = NULL;
}

void
pws_crew_join(pws_crew *crew)
{
    atomic_fetch_add(&crew->present, 1);
}

void
pws_crew_leave(pws_crew *crew)
{
    atomic_fetch_sub(&crew->present, 1);
    pws_crew_call(crew);
}

bool
pws_crew_try_take(pws_crew *crew)
{
    return pws_lease_try_take(&crew->engine->lease);
}

void
pws_crew_take(pws_crew *crew)
{
    if (!pws_crew_try_take(crew)) {
        pws_relief_take_lease(&crew->engine->relief);
    }
}

void
pws_crew_call(pws_crew *crew)
{
    atomic_fetch_add(&crew->calls_up, 1);
    wake(&crew->calls_up, 1);
    if (crew->bell != NULL) {
        pws_poller_wake(crew->bell);
    }
}

uint32_t
pws_crew_wait_call(pws_crew *crew, uint32_t seen, int timeout_ms)
{
    if (atomic_load(&crew->calls_up) == seen) {
        sleep_while(&crew->calls_up, seen, timeout_ms);
    }
    return atomic_load(&crew->calls_up);
}

/* A step was taken: let the relief see where we are. */
static void
show(pws_crew *crew)
{
    uint32_t moves = atomic_load_explicit(&crew->moves, memory_order_relaxed);

    atomic_store_explicit(&crew->unattended, !crew->polls, memory_order_relaxed);
    atomic_store_explicit(&crew->vacant,
                          !crew->polls && crew->coming == 0 && crew->idle != NULL,
                          memory_order_relaxed);
    atomic_store_explicit(&crew->stranded,
                          !crew->polls && crew->coming == 0 && crew->idle == NULL &&
                              crew->engine->park.count > 0,
                          memory_order_relaxed);
    atomic_store_explicit(&crew->moves, moves + 1, memory_order_release);
}

static void
come(pws_crew *crew, pws_seat *seat)
{
    seat->coming = true;
    crew->coming++;
}

static void
arrive(pws_crew *crew, pws_seat *seat)
{
    if (seat->coming) {
        seat->coming = false;
        crew->coming--;
    }
}

/* The one that has slept for the shortest time, to be woken without the lease; or NULL.
 */
static pws_seat *
choose(pws_crew *crew)
{
    pws_seat *seat = crew->idle;

    if (seat != NULL) {
        crew->idle = seat->next;
        seat->next = NULL;
        come(crew, seat);
    }
    return seat;
}

static void
rouse_seat(pws_seat *seat)
{
    if (seat != NULL) {
        atomic_store(&seat->woken, 1);
        wake(&seat->woken, 1);
    }
}

void
pws_crew_begin(pws_crew *crew)
{
    pws_seat *seat;

    pws_crew_take(crew);
    crew->polls = false;
    seat = choose(crew); /* or nobody sleeps yet, and the first one leads */
    show(crew);
    pws_lease_drop(&crew->engine->lease);
    rouse_seat(seat);
}

/* The relief is to look after what nobody does. After the lease was dropped. */
static void
arm_relief(pws_crew *crew)
{
    if (atomic_load_explicit(&crew->vacant, memory_order_relaxed) ||
        atomic_load_explicit(&crew->stranded, memory_order_relaxed)) {
        pws_relief_arm(&crew->engine->relief);
    }
}

/* What has come that is not for the crew itself. */
static void
attend(pws_crew *crew)
{
    pws_engine *e = crew->engine;

    if (e->poller.woken || e->poller.letters != 0 || e->poller.owes_sign ||
        pws_engine_is_drained(e)) {
        e->poller.woken = false;
        pws_crew_call(crew);
    }
    pws_letters_witness(&e->relief);
}

static void
poll_once(pws_crew *crew, int timeout_ms)
{
    pws_engine *e = crew->engine;

    crew->polls = true;
    show(crew);
    if (pws_engine_poll(e, 1, timeout_ms) < 0) {
        crew->error = errno;
        crew->ending = true;
        pws_crew_call(crew);
    }
    crew->polls = false;
    attend(crew);
}

/* One more app call has lasted, or not. */
static void
weigh(pws_crew *crew, bool lasted)
{
    crew->lasting -= crew->lasting / 16;
    crew->lasting += lasted ? 16 : 0;
}

/* How long the last app call has taken, for what depends on it. */
static void
measure(pws_crew *crew, pws_seat *seat)
{
    if (seat->measured) {
        seat->measured = false;
        crew->out--;
        pws_hold_note(&crew->engine->hold, seat->took_ns);
        weigh(crew, seat->took_ns >= crew->lasts_ns);
    }
}

/* Somebody else than who polls may have done the last thing that a drain waits for: the
 * poller would hear of nothing any more. */
static void
note_end(pws_crew *crew)
{
    if (crew->engine->draining && pws_engine_is_drained(crew->engine)) {
        pws_crew_call(crew);
        pws_letters_witness(&crew->engine->relief);
    }
}

/* While somebody waits in the poller: what the engine has left to do may bring a
 * request, or an event that is there already. The first ones of a connection may only
 * say that it can be written to. */
static pws_exchange *
find_beside(pws_crew *crew)
{
    pws_engine *e = crew->engine;
    pws_exchange *x;

    pws_engine_tidy(e);
    x = pws_engine_next(e);
    for (int i = 0; x == NULL && i < TRIES_BESIDE && pws_engine_take_event(e); i++) {
        x = pws_engine_next(e);
    }
    /* More than one may have come, and who waits does so without end if nobody had a
     * request when he began. */
    if (x != NULL &&
        (e->queue_first != NULL || e->waits_until_ms > e->clock.now_ms + PWS_TICK_MS)) {
        pws_engine_end_wait(e);
    }
    return x;
}

/* What is queued, or comes without a wait. */
static pws_exchange *
find(pws_crew *crew)
{
    pws_engine *e = crew->engine;
    pws_exchange *x;

    if (!e->waiting) {
        pws_relief_catch_up(&e->relief);
    }
    x = pws_engine_next(e);
    if (x == NULL && e->waiting) {
        x = find_beside(crew);
    }
    else if (x == NULL && (e->poller.count >= BUSY_BATCH || e->at < e->poller.count)) {
        poll_once(crew, 0);
        x = pws_engine_next(e);
    }
    if (x == NULL) {
        note_end(crew);
    }
    return x;
}

pws_exchange *
pws_crew_next(pws_crew *crew, pws_seat *seat)
{
    pws_engine *e = crew->engine;
    pws_exchange *x = NULL;
    pws_seat *other = NULL;

    arrive(crew, seat);
    measure(crew, seat);
    if (!crew->ending) {
        x = find(crew);
    }
    if (x != NULL && crew->lasting >= MANY_LASTING && !crew->polls &&
        crew->coming == 0) {
        other = choose(crew);
    }
    crew->out += x != NULL ? 1 : 0;
    show(crew);
    pws_lease_drop(&e->lease);
    rouse_seat(other);
    if (x != NULL) {
        arm_relief(crew);
    }
    return x;
}

void
pws_crew_enter(pws_crew *crew, pws_seat *seat, pws_exchange *x)
{
    pws_relief_enter_call(&crew->engine->relief, seat->call, x);
    seat->began_ns = pws_clock_ns();
}

void
pws_crew_done(pws_seat *seat, pws_exchange *x)
{
    pws_relief_leave_call(seat->call);
    seat->took_ns = pws_clock_ns() - seat->began_ns;
    seat->measured = true;
    pws_exchange_done(x);
}

/* Sleep, with the lease dropped meanwhile. */
static void
rest(pws_crew *crew, pws_seat *seat)
{
    pws_engine *e = crew->engine;

    pws_hold_send(e);
    pws_engine_rouse(e);
    note_end(crew);
    atomic_store(&seat->woken, 0);
    seat->next = crew->idle;
    crew->idle = seat;
    show(crew);
    pws_lease_drop(&e->lease);
    while (atomic_load(&seat->woken) == 0) {
        sleep_while(&seat->woken, 0, -1);
    }
    pws_crew_take(crew);
    arrive(crew, seat);
}

/* Who wants the lease has it before the next turn: a leader that finds something to do
 * in each, say of an upload, does not wait, and would lend it to nobody. */
static void
give_way(pws_crew *crew)
{
    pws_engine *e = crew->engine;

    if (atomic_load(&e->relief.wanted) == 0) {
        return;
    }
    show(crew);
    pws_lease_drop(&e->lease);
    while (atomic_load(&e->relief.wanted) > 0) {
        sched_yield();
    }
    pws_crew_take(crew);
}

bool
pws_crew_wait(pws_crew *crew, pws_seat *seat)
{
    pws_engine *e = crew->engine;
    bool ends;

    pws_crew_take(crew);
    arrive(crew, seat);
    while (!crew->ending && e->queue_first == NULL && !pws_engine_has_released(e)) {
        if (crew->polls) {
            rest(crew, seat);
        }
        else {
            /* They may leave deadlines behind which we would not know of. */
            poll_once(crew, crew->out > 0 ? PWS_TICK_MS : -1);
            give_way(crew);
        }
    }
    ends = crew->ending;
    if (!ends) {
        come(crew, seat);
    }
    show(crew);
    pws_lease_drop(&e->lease);
    if (!ends && atomic_load(&e->relief.word) == PWS_RELIEF_RESTS) {
        /* We may have to wait for a lock of the caller's, and nobody polls. */
        pws_relief_wake(&e->relief, PWS_RELIEF_WATCHES);
    }
    return !ends;
}

void
pws_crew_end(pws_crew *crew)
{
    pws_engine *e = crew->engine;
    pws_seat *seat;

    pws_crew_take(crew);
    crew->ending = true;
    while ((seat = choose(crew)) != NULL) {
        rouse_seat(seat);
    }
    show(crew);
    pws_lease_drop(&e->lease);
    pws_engine_wake(e);
}

/* A thread that waits for a client. */
typedef struct {
    pws_parking parking;
    _Atomic uint32_t told; /* futex */
} waiter;

static void
tell_waiter(pws_parking *p)
{
    waiter *w = p->owner;

    atomic_store(&w->told, 1); /* it may be gone from here on; a wake does no harm */
    wake(&w->told, 1);
}

int
pws_crew_park(pws_crew *crew, const pws_crew_wish *wish)
{
    pws_engine *e = crew->engine;
    waiter w = {.parking = {.x = wish->x,
                            .what = wish->what,
                            .emptied = wish->emptied,
                            .deadline_ms = wish->deadline_ms,
                            .patience_ms = wish->patience_ms,
                            .notice = tell_waiter,
                            .owner = &w}};
    bool parked;

    pws_crew_take(crew);
    parked = !pws_exchange_is_taken(wish->x) && pws_park(e, &w.parking);
    if (parked) {
        pws_engine_tidy(e); /* who waits in the poller may have to know the deadline */
        pws_engine_rouse(e);
        show(crew);
    }
    pws_lease_drop(&e->lease);
    arm_relief(crew);
    while (parked && atomic_load(&w.told) == 0) {
        sleep_while(&w.told, 0, -1);
    }
    return w.parking.result;
}

void
pws_crew_rouse(pws_crew *crew, pws_exchange *x)
{
    pws_crew_take(crew);
    pws_park_cancel_all(crew->engine, x);
    pws_lease_drop(&crew->engine->lease);
}

bool
pws_crew_promote(pws_crew *crew)
{
    pws_engine *e = crew->engine;
    pws_seat *seat = NULL;

    if (!pws_lease_try_take(&e->lease)) {
        return false;
    }
    if (!crew->polls && crew->coming == 0 && !crew->ending) {
        seat = choose(crew);
        weigh(crew, true); /* it has not ended, but it is known to have lasted */
        show(crew);
    }
    pws_lease_drop(&e->lease);
    rouse_seat(seat);
    return seat != NULL;
}
