#include "py/inline.h"

#include <errno.h>

#include "base/clock.h"
#include "engine/evict.h"
#include "py/turn.h"

/* The number of events in a batch from which on the next poll does not wait: under load
 * something is there already, and the GIL need not be given up. */
#define BUSY_BATCH 2

/* It was interrupted: they are heeded again, in the next wait or before the next
 * request. */
static void
put_letters_back(pws_engine *e, unsigned letters)
{
    pws_turn_take_lease(e);
    e->poller.letters |= letters;
    pws_lease_drop(&e->lease);
}

/* One wait without the GIL. Returns like pws_engine_wait, and gives the `letters` that
 * have come. */
static int
wait_once(pws_lane *lane, const pws_wait *wait, unsigned *letters)
{
    pws_engine *e = lane->engine;
    int rc = 1;

    pws_turn_pause(lane);
    Py_BEGIN_ALLOW_THREADS
    pws_turn_take_lease_back(e);
    if (pws_turn_is_drain_due(e, lane->config->orders)) {
        pws_engine_drain(e);
    }
    if (pws_relief_take_woken(&e->relief)) {
        rc = PWS_WAIT_WOKEN;
    }
    else if ((wait->what & PWS_WRITABLE) == 0 ||
             wait->x->out.shortage <= PWS_SHORT_OF_OWN || !pws_evict_for_spool(e)) {
        rc = pws_engine_wait(e, wait);
    }
    *letters = pws_turn_take_letters(e);
    e->relief.letters |= *letters;
    pws_lease_drop(&e->lease);
    Py_END_ALLOW_THREADS
    pws_turn_resume(lane, wait->x);
    return rc;
}

/* What the master wants, outside of the request's objects. What is raised there, by a
 * handler of a signal that comes meanwhile, is for the app. Returns 0 or -1. */
static int
heed_in_wait(pws_lane *lane, unsigned letters)
{
    PyObject *type, *value, *traceback;
    int rc = pws_turn_heed(lane->config, letters);

    PyErr_Fetch(&type, &value, &traceback);
    if (rc < 0) {
        put_letters_back(lane->engine, letters);
    }
    if (pws_lane_step_in(lane) < 0 && rc == 0) {
        return -1;
    }
    PyErr_Restore(type, value, traceback);
    return rc;
}

/* When a client is not waited for any more. */
static int64_t
last_moment(const pws_orders *orders, int64_t deadline_ms)
{
    int64_t end_ms;

    switch (atomic_load(&orders->stop)) {
    case PWS_STOP_NOT:
        return deadline_ms;
    case PWS_STOP_GRACEFUL:
        end_ms = atomic_load(&orders->end_ms);
        return end_ms < deadline_ms ? end_ms : deadline_ms;
    default:
        return 0;
    }
}

/* One wait and what comes with it. Returns 1, 0, PWS_WAIT_WOKEN, or PWS_WAIT_FAILED
 * with an exception. */
static int
wait_and_look(pws_lane *lane, const pws_wait *wait)
{
    unsigned letters;
    int rc, error;

    pws_lane_step_out(lane);
    rc = wait_once(lane, wait, &letters);
    error = errno;
    pws_lane_drop_released(lane->engine);
    if (heed_in_wait(lane, letters) < 0) {
        return PWS_WAIT_FAILED;
    }
    if (rc == PWS_WAIT_FAILED) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return rc;
}

int
pws_inline_wait(pws_lane *lane, unsigned what, int64_t timeout_ms)
{
    pws_wait wait = {.x = lane->x,
                     .what = what,
                     .emptied = atomic_load(&lane->x->emptied),
                     .patience_ms = timeout_ms};
    int64_t deadline_ms = PWS_NEVER;
    pws_clock now;

    pws_clock_read(&now);
    if (timeout_ms > 0) {
        deadline_ms = now.now_ms + timeout_ms;
    }
    for (;;) {
        int64_t until_ms = last_moment(lane->config->orders, deadline_ms);
        int rc;

        /* Signals end a wait, not the time for it. */
        if (until_ms <= now.now_ms) {
            return 0;
        }
        wait.timeout_ms = until_ms != PWS_NEVER ? until_ms - now.now_ms : 0;
        rc = wait_and_look(lane, &wait);
        if (rc != PWS_WAIT_WOKEN) {
            return rc >= 0 ? rc : -1;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        pws_clock_read(&now);
    }
}

/* Poll, waiting without the GIL when nothing is likely to be there. Returns 0 or -1
 * with an exception. Entered with the lease, left without it. */
static int
poll_engine(pws_engine *e, int timeout_ms)
{
    bool busy = e->poller.count >= BUSY_BATCH || e->at < e->poller.count;
    bool woken;
    int rc = 0;

    if (busy || timeout_ms == 0) {
        rc = pws_engine_poll(e, 1, 0);
        busy = rc != 0 || e->poller.count > 0 || e->poller.woken || timeout_ms == 0 ||
               pws_engine_is_drained(e);
    }
    if (busy) {
        woken = e->poller.woken;
        pws_lease_drop(&e->lease);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        rc = pws_engine_poll(e, 1, timeout_ms);
        woken = e->poller.woken;
        pws_lease_drop(&e->lease);
        Py_END_ALLOW_THREADS
    }
    if (rc < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return woken ? PyErr_CheckSignals() : 0;
}

static int
serve(pws_lane *lane)
{
    const pws_orders *orders = lane->config->orders;
    pws_engine *e = lane->engine;
    int rc = 0;

    while (rc >= 0) {
        pws_exchange *x;

        if (e->abandoned) {
            pws_turn_end_child();
        }
        pws_turn_take_lease(e);
        rc = pws_turn_heed_all(lane->config);
        if (rc != 0) {
            continue;
        }
        if (pws_turn_should_end(e, orders)) {
            pws_lease_drop(&e->lease);
            break;
        }
        pws_relief_catch_up(&e->relief);
        x = pws_engine_next(e);
        if (x == NULL && pws_turn_should_end(e, orders)) {
            pws_lease_drop(&e->lease); /* what was handed back was the last one */
            break;
        }
        if (x == NULL) {
            rc = poll_engine(e, pws_turn_time_left_ms(e, orders));
        }
        else {
            pws_lease_drop(&e->lease);
            pws_turn_run(lane, x);
        }
        pws_lane_drop_released(e);
    }
    return rc < 0 ? -1 : 0;
}

int
pws_inline_serve(pws_lane *lane)
{
    pws_engine *e = lane->engine;
    int rc;

    if (pws_turn_start_relief(lane->config)) {
        pws_hold_allow(&e->hold, &e->relief);
    }
    rc = serve(lane);
    pws_relief_end(&e->relief);
    return rc;
}
