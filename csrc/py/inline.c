#include "py/inline.h"

#include <errno.h>
#include <unistd.h>

#include "base/log.h"
#include "py/call.h"

/* The number of events in a batch from which on the next poll does not wait: under load
 * something is there already, and the GIL need not be given up. */
#define BUSY_BATCH 2

/* Let go of the objects whose bytes have been sent. */
static void
drop_released(pws_engine *e)
{
    pws_segment *segment = pws_engine_released(e);

    while (segment != NULL) {
        pws_segment *next = segment->next;

        Py_DECREF((PyObject *)segment->object);
        free(segment);
        segment = next;
    }
}

/* Never wait for the lease with the GIL: its holder may want that. */
static void
take_lease(pws_engine *e)
{
    if (!pws_lease_try_take(&e->lease)) {
        Py_BEGIN_ALLOW_THREADS
        pws_lease_take(&e->lease);
        Py_END_ALLOW_THREADS
    }
}

/* One wait without the GIL. Returns like pws_engine_wait. */
static int
wait_once(pws_lane *lane, unsigned what, int64_t timeout_ms)
{
    pws_engine *e = lane->engine;
    pws_exchange *x = lane->x;
    int rc;

    Py_BEGIN_ALLOW_THREADS
    pws_lease_take(&e->lease);
    rc = pws_engine_wait(e, x, what, timeout_ms);
    pws_lease_drop(&e->lease);
    Py_END_ALLOW_THREADS
    return rc;
}

int
pws_inline_wait(pws_lane *lane, unsigned what, int64_t timeout_ms)
{
    int64_t deadline_ms = PWS_NEVER;
    pws_clock now;

    pws_clock_read(&now);
    if (timeout_ms > 0) {
        deadline_ms = now.now_ms + timeout_ms;
    }
    for (;;) {
        int rc;

        pws_lane_step_out(lane);
        rc = wait_once(lane, what,
                       deadline_ms != PWS_NEVER ? deadline_ms - now.now_ms : 0);
        drop_released(lane->engine);
        if (pws_lane_step_in(lane) < 0) {
            return -1;
        }
        if (rc == PWS_WAIT_FAILED) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        if (rc != PWS_WAIT_WOKEN) {
            return rc;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        /* Signals end a wait, not the time for it. */
        pws_clock_read(&now);
        if (deadline_ms <= now.now_ms) {
            return 0;
        }
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
        busy = rc != 0 || e->poller.count > 0 || e->poller.woken || timeout_ms == 0;
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
should_end(pws_engine *e, const _Atomic int *stop, int64_t graceful_ms, int64_t *end_ms)
{
    switch (atomic_load_explicit(stop, memory_order_relaxed)) {
    case PWS_STOP_NOT:
        return false;
    case PWS_STOP_GRACEFUL:
        if (!e->draining) {
            pws_engine_drain(e);
            *end_ms = e->clock.now_ms + graceful_ms;
        }
        return (pws_engine_open(e) == 0 && e->queue_first == NULL) ||
               e->clock.now_ms >= *end_ms;
    default:
        return true;
    }
}

/* What is left of the time to stop in, for poll_engine. */
static int
time_left_ms(const pws_engine *e, int64_t end_ms)
{
    int64_t left_ms = end_ms - e->clock.now_ms;

    return end_ms == PWS_NEVER || left_ms > INT32_MAX ? -1 : (int)left_ms;
}

int
pws_inline_serve(pws_lane *lane, _Atomic int *stop, int64_t graceful_ms)
{
    pws_engine *e = lane->engine;
    int64_t end_ms = PWS_NEVER;
    int rc = 0;

    while (rc == 0) {
        pws_exchange *x;

        if (e->abandoned) {
            end_child();
        }
        take_lease(e);
        if (should_end(e, stop, graceful_ms, &end_ms)) {
            pws_lease_drop(&e->lease);
            break;
        }
        x = pws_engine_next(e);
        if (x == NULL) {
            rc = poll_engine(e, time_left_ms(e, end_ms));
        }
        else {
            pws_lease_drop(&e->lease);
            pws_call_app(lane, x);
            if (e->abandoned) {
                end_child();
            }
            pws_exchange_done(x);
        }
        drop_released(e);
    }
    return rc;
}
