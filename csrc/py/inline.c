#include "py/inline.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/evict.h"
#include "py/call.h"

/* The number of events in a batch from which on the next poll does not wait: under load
 * something is there already, and the GIL need not be given up. */
#define BUSY_BATCH 2

/* From the relief, if need be, which sees that we are not in the app any more. Without
 * the GIL. */
static void
take_lease_back(pws_engine *e)
{
    if (!pws_lease_try_take(&e->lease)) {
        pws_relief_hurry(&e->relief);
        pws_lease_take(&e->lease);
    }
}

/* Never wait for the lease with the GIL: its holder may want that. */
static void
take_lease(pws_engine *e)
{
    if (!pws_lease_try_take(&e->lease)) {
        Py_BEGIN_ALLOW_THREADS
        take_lease_back(e);
        Py_END_ALLOW_THREADS
    }
}

/* The master's orders that have come since. The lease is held. */
static unsigned
take_letters(pws_engine *e)
{
    unsigned letters = e->poller.letters;

    e->poller.letters = 0;
    return letters;
}

/* Returns 0, or -1 with an exception set. */
static int
heed(const pws_lane *lane, unsigned letters)
{
    PyObject *result;

    if (letters == 0 || lane->config->tie == NULL) {
        return 0;
    }
    result = PyObject_CallFunction(lane->config->tie->heed, "I", letters);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

/* What this process says of itself; NULL: there is no master. */
static pws_cell *
own_cell(const pws_lane *lane)
{
    return lane->config->tie != NULL && !lane->engine->abandoned
               ? lane->config->tie->master->cell
               : NULL;
}

/* The app is about to be called for `x`: its time begins, and the relief's watch. */
static void
enter_app(const pws_lane *lane, pws_exchange *x)
{
    pws_cell *cell = own_cell(lane);

    if (cell != NULL) {
        const pws_request *req = &x->request;

        pws_cell_begin(cell);
        pws_hand_begin(
            &cell->hands[0], pws_request_slice(req, req->method),
            pws_request_slice(req, req->target),
            atomic_load_explicit(&cell->busy_since_ms, memory_order_relaxed));
    }
    pws_relief_enter(&lane->engine->relief, x);
}

/* It has returned. The cell first: who sees it busy finds the request at the hand. */
static void
leave_app(const pws_lane *lane)
{
    pws_cell *cell = own_cell(lane);

    pws_relief_leave(&lane->engine->relief);
    if (cell != NULL) {
        pws_cell_end(cell);
        pws_hand_end(&cell->hands[0]);
    }
}

/* It waits for its client, which is nobody's time but that client's; it goes on. */
static void
pause_app(const pws_lane *lane)
{
    pws_cell *cell = own_cell(lane);

    pws_relief_leave(&lane->engine->relief);
    if (cell != NULL) {
        pws_cell_end(cell);
        pws_hand_pause(&cell->hands[0], pws_clock_now_ms());
    }
}

static void
resume_app(const pws_lane *lane, pws_exchange *x)
{
    pws_cell *cell = own_cell(lane);

    if (cell != NULL) {
        pws_cell_begin(cell);
        pws_hand_resume(&cell->hands[0], pws_clock_now_ms());
    }
    pws_relief_enter(&lane->engine->relief, x);
}

/* A request is done. Who has served enough goes on until the master sends it away,
 * because a successor must be there first. */
static void
count_request(const pws_lane *lane)
{
    const pws_tie *tie = lane->config->tie;

    if (tie == NULL) {
        return;
    }
    if (pws_cell_count(tie->master->cell) == tie->max_requests) {
        pws_log(PWS_LOG_INFO, "Autorestarting worker after current request.");
        atomic_store(&tie->master->cell->leaving, true);
        pws_master_tell(tie->master);
    }
}

/* Whether a stop has been ordered, and no connections are to be accepted any more. */
static bool
is_drain_due(const pws_engine *e, const pws_orders *orders)
{
    return atomic_load(&orders->stop) != PWS_STOP_NOT &&
           e->clock.now_ms >= atomic_load(&orders->drain_ms);
}

/* It was interrupted: they are heeded again, in the next wait or before the next
 * request. */
static void
put_letters_back(pws_engine *e, unsigned letters)
{
    take_lease(e);
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

    pause_app(lane);
    Py_BEGIN_ALLOW_THREADS
    take_lease_back(e);
    if (is_drain_due(e, lane->config->orders)) {
        pws_engine_drain(e);
    }
    if (pws_relief_take_woken(&e->relief)) {
        rc = PWS_WAIT_WOKEN;
    }
    else if ((wait->what & PWS_WRITABLE) == 0 ||
             wait->x->out.shortage <= PWS_SHORT_OF_OWN || !pws_evict_for_spool(e)) {
        rc = pws_engine_wait(e, wait);
    }
    *letters = take_letters(e);
    e->relief.letters |= *letters;
    pws_lease_drop(&e->lease);
    Py_END_ALLOW_THREADS
    resume_app(lane, wait->x);
    return rc;
}

/* What the master wants, outside of the request's objects. What is raised there, by a
 * handler of a signal that comes meanwhile, is for the app. Returns 0 or -1. */
static int
heed_in_wait(pws_lane *lane, unsigned letters)
{
    PyObject *type, *value, *traceback;
    int rc = heed(lane, letters);

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
    pws_wait wait = {.x = lane->x, .what = what, .patience_ms = timeout_ms};
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

/* A child that an app has forked has come back into the server, which is not its own:
 * two processes would answer one client. */
static void
end_child(void)
{
    pws_log(PWS_LOG_ERROR,
            "A process that the app has forked came back into the server "
            "instead of ending: ended here");
    _exit(1);
}

/* Whether the server is to end now; begins to drain when asked to. */
static bool
should_end(pws_engine *e, const pws_orders *orders)
{
    switch (atomic_load_explicit(&orders->stop, memory_order_relaxed)) {
    case PWS_STOP_NOT:
        return false;
    case PWS_STOP_GRACEFUL:
        if (!is_drain_due(e, orders)) {
            return false;
        }
        pws_engine_drain(e);
        return pws_engine_is_drained(e) ||
               e->clock.now_ms >= atomic_load(&orders->end_ms);
    default:
        return true;
    }
}

/* What is left of the time to stop in, for poll_engine. */
static int
time_left_ms(const pws_engine *e, const pws_orders *orders)
{
    int64_t until_ms, left_ms;

    if (atomic_load_explicit(&orders->stop, memory_order_relaxed) == PWS_STOP_NOT) {
        return -1;
    }
    until_ms = is_drain_due(e, orders) ? atomic_load(&orders->end_ms)
                                       : atomic_load(&orders->drain_ms);
    left_ms = until_ms - e->clock.now_ms;
    return left_ms > INT32_MAX ? -1 : left_ms > 0 ? (int)left_ms : 0;
}

/* Run the app for `x`, which was handed out, and give it back. */
static void
run_app(pws_lane *lane, pws_exchange *x)
{
    enter_app(lane, x);
    pws_call_app(lane, x);
    if (lane->engine->abandoned) {
        end_child();
    }
    leave_app(lane);
    pws_exchange_done(x);
    count_request(lane);
}

/* What has come for us while the relief had the lease, or was left by it. Entered with
 * the lease. Returns 0 with it, when there was nothing; else without: 1, or -1 with an
 * exception. */
static int
heed_all(const pws_lane *lane)
{
    pws_engine *e = lane->engine;
    bool woken = pws_relief_take_woken(&e->relief);
    unsigned letters = take_letters(e);

    e->relief.letters = 0; /* the request that they were for is over */
    if (!woken && letters == 0) {
        return 0;
    }
    pws_lease_drop(&e->lease);
    if (woken && PyErr_CheckSignals() < 0) {
        return -1;
    }
    return heed(lane, letters) < 0 ? -1 : 1;
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
            end_child();
        }
        take_lease(e);
        rc = heed_all(lane);
        if (rc != 0) {
            continue;
        }
        if (should_end(e, orders)) {
            pws_lease_drop(&e->lease);
            break;
        }
        pws_relief_catch_up(&e->relief);
        x = pws_engine_next(e);
        if (x == NULL && should_end(e, orders)) {
            pws_lease_drop(&e->lease); /* what was handed back was the last one */
            break;
        }
        if (x == NULL) {
            rc = poll_engine(e, time_left_ms(e, orders));
        }
        else {
            pws_lease_drop(&e->lease);
            run_app(lane, x);
        }
        pws_lane_drop_released(e);
    }
    return rc < 0 ? -1 : 0;
}

int
pws_inline_serve(pws_lane *lane)
{
    const pws_tie *tie = lane->config->tie;
    pws_engine *e = lane->engine;
    int rc;

    if (tie != NULL) {
        e->relief.terms = (pws_relief_terms){
            .cell = tie->master->cell,
            .news_fd = tie->master->news[1],
            .drain_letters =
                PWS_ORDER_RETIRE | PWS_ORDER_QUICK | PWS_ORDER_DRAIN | PWS_LETTER_END,
            .give_up_letters = PWS_ORDER_GIVE_UP,
        };
    }
    if (pws_relief_start(&e->relief, e) < 0) {
        pws_log(PWS_LOG_WARNING, "relief: no thread: %s", strerror(errno));
    }
    else {
        pws_hold_allow(&e->hold, &e->relief);
    }
    rc = serve(lane);
    pws_relief_end(&e->relief);
    return rc;
}
