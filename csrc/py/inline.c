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

int
pws_inline_wait(pws_lane *lane, unsigned what, int64_t timeout_ms)
{
    pws_engine *e = lane->engine;
    int64_t deadline_ms = PWS_NEVER;
    pws_clock now;
    int rc;

    pws_clock_read(&now);
    if (timeout_ms > 0) {
        deadline_ms = now.now_ms + timeout_ms;
    }
    do {
        /* Signals end a wait, not the time for it. */
        if (deadline_ms != PWS_NEVER && deadline_ms <= now.now_ms) {
            return 0;
        }
        timeout_ms = deadline_ms != PWS_NEVER ? deadline_ms - now.now_ms : 0;
        Py_BEGIN_ALLOW_THREADS
        pws_lease_take(&e->lease);
        rc = pws_engine_wait(e, lane->x, what, timeout_ms);
        pws_lease_drop(&e->lease);
        Py_END_ALLOW_THREADS
        drop_released(e);
        if (rc < 0 && PyErr_CheckSignals() < 0) {
            return -1;
        }
        pws_clock_read(&now);
    } while (rc < 0);
    return rc;
}

/* Poll, waiting without the GIL when nothing is likely to be there. Returns 0 or -1
 * with an exception. Entered and left with the lease held. */
static int
poll_engine(pws_engine *e, int timeout_ms)
{
    int rc = 0;

    if (e->poller.count >= BUSY_BATCH || e->at < e->poller.count || timeout_ms == 0) {
        rc = pws_engine_poll(e, 1, 0);
        if (rc > 0 || e->poller.count > 0 || e->poller.woken || timeout_ms == 0) {
            goto done;
        }
    }
    if (rc >= 0) {
        Py_BEGIN_ALLOW_THREADS
        rc = pws_engine_poll(e, 1, timeout_ms);
        pws_lease_drop(&e->lease);
        Py_END_ALLOW_THREADS
        pws_lease_take(&e->lease);
    }
done:
    if (rc < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return e->poller.woken ? PyErr_CheckSignals() : 0;
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

int
pws_inline_serve(pws_lane *lane, _Atomic int *stop, int64_t graceful_ms)
{
    pws_engine *e = lane->engine;
    int64_t end_ms = PWS_NEVER;
    int rc = 0;

    pws_lease_take(&e->lease);
    while (rc == 0 && !should_end(e, stop, graceful_ms, &end_ms)) {
        pws_exchange *x = pws_engine_next(e);

        if (x != NULL) {
            pws_lease_drop(&e->lease);
            rc = pws_call_app(lane, x);
            if (e->abandoned) {
                end_child();
            }
            pws_exchange_done(x);
            pws_lease_take(&e->lease);
        }
        else {
            rc = poll_engine(e, end_ms == PWS_NEVER ? -1
                                                    : (int)(end_ms - e->clock.now_ms));
        }
        drop_released(e);
    }
    pws_lease_drop(&e->lease);
    return rc;
}
