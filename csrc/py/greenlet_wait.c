#include "py/greenlet_wait.h"

#include <time.h>

#include "base/clock.h"
#include "engine/park.h"
#include "py/berth_time.h"
#include "py/turn.h"

/* A greenlet that lets others go on: it is on the pool's list until a step takes it
 * off. */
struct pws_nap {
    pws_nap *next;
    PyObject *greenlet;
    bool over;
};

/* Somebody who waits for the client of a request. */
typedef struct {
    pws_parking parking;     /* first; its owner is the berth */
    PyObject *greenlet;      /* NULL: a thread */
    PyThread_type_lock lock; /* of a thread: held until it is to go on */
    bool resumed;            /* a greenlet: a step has gone on with it */
} waiter;

static pws_berth *
berth_of(const pws_lane *lane)
{
    return lane->executor;
}

int
pws_greenlet_switch(const pws_greenlets *pool, PyObject *greenlet)
{
    PyObject *result;

    Py_INCREF(greenlet);
    result = pool->api.switch_to(greenlet, NULL, NULL);
    Py_DECREF(greenlet);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

int
pws_greenlet_go_on(const pws_greenlets *pool, PyObject *greenlet)
{
    PyObject *type, *error, *traceback, *result;

    if (pws_greenlet_switch(pool, greenlet) == 0) {
        return 0;
    }
    if (pool->hosted->config.engine->abandoned) {
        pws_turn_end_child(); /* the greenlet has forked, and ended there */
    }
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        (void)PyException_SetTraceback(error, traceback);
    }
    result = PyObject_CallOneArg(pool->stray, error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

static bool
is_other_thread(const pws_greenlets *pool)
{
    return PyThread_get_thread_ident() != pool->thread;
}

/* The greenlet that runs, if it can switch to the hub: a new reference, or NULL with an
 * exception. */
static PyObject *
current_greenlet(const pws_greenlets *pool)
{
    PyObject *current = pool->api.current();

    if (current == pool->hub) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the hub, which all requests need, cannot wait for one");
        Py_CLEAR(current);
    }
    return current;
}

/* A number of its own also for the main greenlet of each other thread. */
static uintptr_t
current_self(const pws_lane *lane)
{
    PyObject *current = berth_of(lane)->pool->api.current();
    uintptr_t self = (uintptr_t)current;

    if (current == NULL) {
        PyErr_Clear();
        return (uintptr_t)PyThread_get_thread_ident();
    }
    Py_DECREF(current); /* what runs lives on */
    return self;
}

/* Who has entered the app would not get it back from the relief. */
static void
take_lease(pws_greenlets *pool)
{
    pws_berths_leave(pool);
    pws_hosted_take_lease(pool->hosted);
}

static void
drop_lease(pws_greenlets *pool)
{
    pws_lease_drop(&pool->hosted->config.engine->lease);
}

/* Pauses */

static void
append_nap(pws_greenlets *pool, pws_nap *nap)
{
    if (pool->nap_last != NULL) {
        pool->nap_last->next = nap;
    }
    else {
        pool->nap_first = nap;
    }
    pool->nap_last = nap;
}

static pws_nap *
take_nap(pws_greenlets *pool)
{
    pws_nap *nap = pool->nap_first;

    if (nap != NULL) {
        pool->nap_first = nap->next;
        if (nap->next == NULL) {
            pool->nap_last = NULL;
        }
        nap->next = NULL;
        nap->over = true;
    }
    return nap;
}

/* It did not wait until its turn. */
static void
remove_nap(pws_greenlets *pool, const pws_nap *nap)
{
    pws_nap **place = &pool->nap_first, *before = NULL;

    while (*place != nap) {
        before = *place;
        place = &before->next;
    }
    *place = nap->next;
    if (pool->nap_last == nap) {
        pool->nap_last = before;
    }
}

/* Let other greenlets go on until the next step. Returns 0 or -1 with an exception. */
static int
take_a_nap(pws_greenlets *pool)
{
    pws_nap *nap = PyMem_Calloc(1, sizeof(*nap));
    int rc = 0;

    if (nap == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    nap->greenlet = current_greenlet(pool);
    if (nap->greenlet == NULL) {
        PyMem_Free(nap);
        return -1;
    }
    append_nap(pool, nap);
    pws_hosted_look(pool->hosted);
    while (rc == 0 && !nap->over) {
        rc = pws_greenlet_switch(pool, pool->hub);
    }
    if (!nap->over) {
        remove_nap(pool, nap);
    }
    Py_DECREF(nap->greenlet);
    PyMem_Free(nap);
    return rc;
}

static int
pause_a_moment(pws_lane *lane)
{
    const struct timespec moment = {0, 200 * 1000};
    pws_greenlets *pool = berth_of(lane)->pool;

    if (!is_other_thread(pool)) {
        return take_a_nap(pool);
    }
    Py_BEGIN_ALLOW_THREADS
    nanosleep(&moment, NULL);
    Py_END_ALLOW_THREADS
    return 0;
}

int
pws_greenlet_wake_naps(pws_greenlets *pool)
{
    unsigned count = 0; /* who comes later waits for the next step */
    pws_nap *nap;

    for (nap = pool->nap_first; nap != NULL; nap = nap->next) {
        count++;
    }
    while (count-- > 0 && (nap = take_nap(pool)) != NULL) {
        if (pws_greenlet_go_on(pool, nap->greenlet) < 0) { /* it may be freed by that */
            return -1;
        }
    }
    return 0;
}

/* Waits for the client */

/* By whoever polls, without the GIL. */
static void
wake_thread(pws_parking *parking)
{
    PyThread_release_lock(((waiter *)(void *)parking)->lock);
}

int
pws_greenlet_wake_parked(pws_greenlets *pool, pws_parking *parking)
{
    waiter *w = (waiter *)(void *)parking;

    w->resumed = true;
    return pws_greenlet_go_on(pool, w->greenlet);
}

static void
free_waiter(waiter *w)
{
    Py_XDECREF(w->greenlet);
    if (w->lock != NULL) {
        PyThread_free_lock(w->lock);
    }
    PyMem_Free(w);
}

/* On the heap, since the engine is to find it while its greenlet's stack is elsewhere.
 */
static waiter *
new_waiter(pws_berth *berth)
{
    waiter *w = PyMem_Calloc(1, sizeof(*w));

    if (w == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    w->parking = (pws_parking){.x = berth->x, .owner = berth};
    if (!is_other_thread(berth->pool)) {
        w->greenlet = current_greenlet(berth->pool);
        if (w->greenlet == NULL) {
            free_waiter(w);
            return NULL;
        }
        return w;
    }
    w->parking.notice = wake_thread;
    w->lock = PyThread_allocate_lock();
    if (w->lock == NULL) {
        PyErr_NoMemory();
        free_waiter(w);
        return NULL;
    }
    (void)PyThread_acquire_lock(w->lock, NOWAIT_LOCK);
    return w;
}

/* A greenlet's wait: until a step goes on with it, whoever else switches to it, or an
 * exception is thrown into it. Returns 0 or -1 with that. */
static int
stay_away(pws_greenlets *pool, waiter *w)
{
    PyObject *type, *value, *traceback;

    while (!w->resumed) {
        if (pws_greenlet_switch(pool, pool->hub) == 0) {
            continue;
        }
        if (!w->resumed) {
            PyErr_Fetch(&type, &value, &traceback);
            take_lease(pool);
            pws_park_cancel(pool->hosted->config.engine, &w->parking);
            drop_lease(pool);
            PyErr_Restore(type, value, traceback);
        }
        return -1;
    }
    return 0;
}

static int
wait_parked(pws_greenlets *pool, waiter *w)
{
    if (w->greenlet != NULL) {
        return stay_away(pool, w);
    }
    Py_BEGIN_ALLOW_THREADS(void)
    PyThread_acquire_lock(w->lock, WAIT_LOCK);
    Py_END_ALLOW_THREADS
    return 0;
}

/* One wait, from outside of the objects of the request. Returns 0, with the result at
 * the parking, or -1 with an exception that was thrown in. */
static int
wait_outside(pws_berth *berth, waiter *w)
{
    pws_greenlets *pool = berth->pool;
    bool was_entered = pool->entered, parked;
    int rc;

    take_lease(pool);
    parked = pws_park(berth->lane->engine, &w->parking);
    drop_lease(pool);
    if (!parked) {
        if (was_entered) {
            pws_berths_enter(pool, berth);
        }
        return 0;
    }
    pws_berth_pause_time(berth);
    rc = wait_parked(pool, w);
    pws_berth_resume_time(berth);
    return rc;
}

/* Wait, and go into the request again. Returns like wait_outside. */
static int
wait_and_return(pws_lane *lane, waiter *w)
{
    PyObject *type, *value, *traceback;
    int rc;

    pws_lane_step_out(lane);
    rc = wait_outside(berth_of(lane), w);
    PyErr_Fetch(&type, &value, &traceback);
    if (pws_lane_step_in(lane) < 0 && rc == 0) {
        return -1;
    }
    if (rc < 0) {
        PyErr_Restore(type, value, traceback); /* in place of a later one */
    }
    return rc;
}

int
pws_greenlet_wait(pws_lane *lane, unsigned what, int64_t timeout_ms)
{
    waiter *w = new_waiter(berth_of(lane));
    int rc;

    if (w == NULL) {
        return -1;
    }
    w->parking.what = what;
    w->parking.emptied = atomic_load(&lane->x->emptied);
    w->parking.deadline_ms =
        timeout_ms > 0 ? pws_clock_now_ms() + timeout_ms : PWS_NEVER;
    do {
        w->resumed = false;
        rc = wait_and_return(lane, w);
    } while (rc == 0 && w->parking.result == PWS_PARK_CANCELLED);
    if (rc == 0) {
        rc = w->parking.result != PWS_PARK_OVER ? 1
                                                : 0; /* or another one has sent all */
    }
    free_waiter(w);
    return rc;
}

/* Those who wait for the client of the request, as it ends. */
static void
rouse(pws_lane *lane)
{
    pws_greenlets *pool = berth_of(lane)->pool;

    if (lane->x != NULL && !lane->engine->abandoned) {
        take_lease(pool);
        pws_park_cancel_all(lane->engine, lane->x);
        drop_lease(pool);
        pws_hosted_look(pool->hosted);
    }
}

void
pws_greenlet_wait_set(pws_lane *lane, pws_berth *berth)
{
    lane->executor = berth;
    lane->wait = pws_greenlet_wait;
    lane->self = current_self;
    lane->pause = pause_a_moment;
    lane->rouse = rouse;
}
