#include "py/warden.h"

#include <errno.h>

#include "base/clock.h"
#include "engine/give_up.h"
#include "py/turn.h"

/* How long threads are waited for that are stuck when the time to stop in is over. */
#define LAST_MS 500

/* Between two looks at threads that are to leave. */
#define LOOK_MS 100

/* Beside milliseconds, in what a look returns: */
#define NOT_BY_TIME (-1)
#define FAILED (-2)

void
pws_warden_init(pws_warden *warden, const pws_lane_config *config, pws_crew *crew)
{
    *warden = (pws_warden){.config = config, .crew = crew, .last_ms = PWS_NEVER};
    warden->bell.fd = warden->bell.wake_fd = warden->bell.timer_fd = -1;
}

/* Serving */

/* One look at what there is to do; under the lease. */
typedef struct {
    unsigned letters;
    bool ends;
    int error, wait_ms;
} outlook;

static outlook
look(const pws_warden *warden)
{
    const pws_orders *orders = warden->config->orders;
    pws_engine *e = warden->crew->engine;
    outlook seen;

    pws_engine_tidy(e);
    e->poller.mute = false; /* here is who the master asks: Python runs */
    pws_poller_give_owed_sign(&e->poller);
    e->poller.mute = true;
    seen.letters = pws_turn_take_letters(e);
    e->relief.letters |= seen.letters;
    (void)pws_turn_should_end(e, orders); /* it begins to drain */
    switch (atomic_load(&orders->stop)) {
    case PWS_STOP_NOT:
        break;
    case PWS_STOP_GRACEFUL:
        pws_park_end_at(e, atomic_load(&orders->end_ms));
        break;
    default:
        pws_park_end_at(e, 0);
    }
    pws_engine_tidy(e); /* a drain leaves deadlines, and what can be closed at once */
    pws_engine_rouse(e);
    seen.ends = pws_turn_should_end(e, orders);
    seen.error = warden->crew->error;
    seen.wait_ms = pws_turn_time_left_ms(e, orders);
    return seen;
}

/* What signals and orders say. Returns 1 when there were orders, which may have changed
 * everything, 0, or -1 with an exception. */
static int
heed(const pws_warden *warden, unsigned letters)
{
    const pws_orders *orders = warden->config->orders;
    int before = atomic_load(&orders->stop);

    if (PyErr_CheckSignals() < 0 || pws_turn_heed(warden->config, letters) < 0) {
        return -1;
    }
    return letters != 0 || atomic_load(&orders->stop) != before ? 1 : 0;
}

/* Returns the milliseconds until the next look. */
static int
serve(pws_warden *warden)
{
    outlook seen;
    int rc;

    pws_turn_take_crew_lease(warden->crew);
    seen = look(warden);
    pws_lease_drop(&warden->crew->engine->lease);
    if (seen.error != 0) {
        errno = seen.error;
        PyErr_SetFromErrno(PyExc_OSError);
        return FAILED;
    }
    rc = heed(warden, seen.letters);
    if (rc < 0) {
        return FAILED;
    }
    if (seen.ends) {
        pws_warden_send_home(warden);
        warden->stage = PWS_WARDEN_SEES_OUT;
        return 0;
    }
    return rc > 0 ? 0 : seen.wait_ms;
}

/* The end */

void
pws_warden_send_home(pws_warden *warden)
{
    pws_engine *e = warden->crew->engine;

    if (!warden->sent_home) {
        warden->sent_home = true;
        Py_BEGIN_ALLOW_THREADS
        pws_crew_take(warden->crew);
        pws_park_end_at(e, 0);
        pws_lease_drop(&e->lease);
        pws_crew_end(warden->crew);
        Py_END_ALLOW_THREADS
    }
}

/* The time to stop in is over: answer for the apps, and for those they will not see. */
static void
say_last_words(const pws_warden *warden)
{
    pws_engine *e = warden->crew->engine;

    pws_turn_take_crew_lease(warden->crew);
    pws_give_up_hands(e);
    pws_give_up_queue(e);
    pws_engine_tidy(e);
    pws_lease_drop(&e->lease);
}

/* Wait until all have left. A stop that is graceful ends with its time; signals are
 * taken. Returns the milliseconds until the next look. */
static int
see_out(pws_warden *warden)
{
    const pws_orders *orders = warden->config->orders;
    int64_t now_ms = pws_clock_now_ms();

    if (atomic_load(&warden->crew->present) == 0) {
        warden->stage = PWS_WARDEN_DONE;
        return NOT_BY_TIME;
    }
    if (PyErr_CheckSignals() < 0) {
        return FAILED;
    }
    if (warden->last_ms == PWS_NEVER &&
        atomic_load(&orders->stop) == PWS_STOP_GRACEFUL &&
        now_ms >= atomic_load(&orders->end_ms)) {
        say_last_words(warden);
        warden->last_ms = now_ms + LAST_MS;
    }
    if (now_ms >= warden->last_ms) {
        warden->stage = PWS_WARDEN_DONE;
        return NOT_BY_TIME;
    }
    return LOOK_MS;
}

/* Looks */

/* Returns the milliseconds until the next one, or one of the above. */
static int
take_look(pws_warden *warden)
{
    switch (warden->stage) {
    case PWS_WARDEN_SERVES:
        return serve(warden);
    case PWS_WARDEN_SEES_OUT:
        return see_out(warden);
    case PWS_WARDEN_DONE:
        break;
    }
    return NOT_BY_TIME;
}

/* Returns 0 or -1 with an exception. */
static int
let_crew_begin(pws_warden *warden)
{
    pws_engine *e = warden->crew->engine;

    if (!pws_turn_start_relief(warden->config)) {
        PyErr_SetString(PyExc_RuntimeError, "threads: the relief cannot be started");
        return -1;
    }
    pws_hold_allow_crew(&e->hold, &e->relief);
    warden->begun = true;
    pws_crew_begin(warden->crew);
    return 0;
}

int
pws_warden_serve(pws_warden *warden)
{
    uint32_t called = 0;
    int wait_ms;

    if (let_crew_begin(warden) < 0) {
        return -1;
    }
    do {
        wait_ms = take_look(warden);
        if (wait_ms != FAILED && warden->stage != PWS_WARDEN_DONE) {
            Py_BEGIN_ALLOW_THREADS
            called = pws_crew_wait_call(warden->crew, called, wait_ms);
            Py_END_ALLOW_THREADS
        }
    } while (wait_ms != FAILED && warden->stage != PWS_WARDEN_DONE);
    return wait_ms == FAILED ? -1 : 0;
}

/* A guest */

int
pws_warden_begin(pws_warden *warden)
{
    if (pws_poller_init(&warden->bell) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    warden->thread = PyThread_get_thread_ident();
    warden->crew->bell = &warden->bell;
    if (let_crew_begin(warden) < 0) {
        pws_warden_close(warden);
        return -1;
    }
    pws_warden_call(warden); /* for the first look */
    return 0;
}

/* Have the loop come back. Without a timer it is asked all the time: better than never.
 */
static void
set_bell(pws_warden *warden, int wait_ms)
{
    if (wait_ms == 0 ||
        pws_poller_arm(&warden->bell, pws_clock_now_ms(), wait_ms) < 0) {
        pws_poller_wake(&warden->bell);
    }
}

int
pws_warden_step(pws_warden *warden)
{
    int wait_ms;

    if (warden->crew->engine->abandoned) {
        pws_turn_end_child();
    }
    if (PyThread_get_thread_ident() != warden->thread) {
        PyErr_SetString(PyExc_RuntimeError, "step() in another thread than begin()");
        return -1;
    }
    if (warden->stepping) {
        return 0; /* a handler runs its loop nested */
    }
    if (pws_poller_wait(&warden->bell, 0) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    warden->stepping = true;
    wait_ms = take_look(warden);
    warden->stepping = false;
    if (wait_ms == FAILED) {
        return -1;
    }
    set_bell(warden, wait_ms);
    return wait_ms == 0 ? 1 : 0;
}

void
pws_warden_close(pws_warden *warden)
{
    warden->crew->bell = NULL;
    pws_poller_close(&warden->bell);
}
