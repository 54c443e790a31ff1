#include "py/greenlets.h"

#include "base/clock.h"
#include "base/log.h"
#include "py/call.h"
#include "py/greenlet_host.h"
#include "py/greenlet_wait.h"
#include "py/berth_time.h"
#include "py/turn.h"

/* Free berths that are kept whatever happens, with their greenlets. */
#define KEPT_FREE 16

/* Requests in hand from which on the next one is to hold little memory. */
#define CROWD 32

/* How often those that were not needed meanwhile are let go of. */
#define TRIM_MS 1000

static pws_greenlets *
pool_of(pws_runner *runner)
{
    return (pws_greenlets *)(void *)runner;
}

/* In a greenlet */

/* Until there is a request, or the greenlet is to return. What somebody throws in
 * meanwhile was meant for a request that has ended. */
static void
rest(pws_berth *berth)
{
    do {
        if (pws_greenlet_switch(berth->pool, berth->pool->hub) < 0) {
            PyErr_Clear();
        }
    } while (berth->x == NULL && !berth->ends);
}

/* There is no server any more that the request could go back to: it was left behind by
 * the end of that, or this is a child that the app has forked, which must not serve.
 * Such a child comes back here in the greenlet that has forked, and ends; another one
 * was in the middle of something that is the parent's business. */
static void
stay_for_ever(pws_berth *berth)
{
    pws_greenlets *pool = berth->pool;

    if (!pool->is_over && (pool->forker == NULL || pool->forker == berth->greenlet)) {
        pws_turn_end_child();
    }
    berth->x = NULL;
    for (;;) {
        rest(berth);
    }
}

static void
see_whether_it_is_over(pws_berth *berth)
{
    if (berth->pool->is_over || berth->lane->engine->abandoned) {
        stay_for_ever(berth);
    }
}

static void
append(pws_greenlets *pool, pws_berth *berth)
{
    berth->prev = pool->newest;
    berth->next = NULL;
    if (pool->newest != NULL) {
        pool->newest->next = berth;
    }
    else {
        pool->oldest = berth;
    }
    pool->newest = berth;
    pool->in_hand++;
    pool->runner.crowded = pool->in_hand >= CROWD;
}

static void
take_out(pws_greenlets *pool, pws_berth *berth)
{
    if (berth->prev != NULL) {
        berth->prev->next = berth->next;
    }
    else {
        pool->oldest = berth->next;
    }
    if (berth->next != NULL) {
        berth->next->prev = berth->prev;
    }
    else {
        pool->newest = berth->prev;
    }
    berth->prev = berth->next = NULL;
    pool->in_hand--;
    pool->runner.crowded = pool->in_hand >= CROWD;
}

static void
push_free(pws_greenlets *pool, pws_berth *berth)
{
    berth->next = pool->free;
    pool->free = berth;
    pool->free_count++;
}

/* Requests in hand, and those whose clean-up waits. */
static uint32_t
unfinished(const pws_greenlets *pool)
{
    return pool->count - pool->free_count;
}

static bool
is_full(const pws_greenlets *pool)
{
    return pool->free == NULL && pool->count >= pool->most;
}

/* The request of a berth, from the beginning to the end. */
static void
serve(pws_berth *berth)
{
    pws_greenlets *pool = berth->pool;
    pws_exchange *x = berth->x;
    bool was_full;

    pws_call_app(berth->lane, x);
    see_whether_it_is_over(berth);
    pws_berths_leave(pool); /* from now on the relief must not look at the exchange */
    take_out(pool, berth);
    pws_berth_end_time(berth);
    berth->x = NULL;
    pws_hosted_done(pool->hosted, x);
    pws_turn_count(berth->lane->config);
    pws_greenlet_host_forget(pool, berth->greenlet);
    pws_greenlet_host_look(pool);
    see_whether_it_is_over(berth); /* these may have waited */
    was_full = is_full(pool);
    push_free(pool, berth);
    if (was_full && !pool->hosted->stepping) {
        pws_hosted_look(pool->hosted);
    }
}

static PyObject *
live(PyObject *capsule, PyObject *Py_UNUSED(unused))
{
    pws_berth *berth = PyCapsule_GetPointer(capsule, NULL);

    if (berth == NULL) {
        return NULL;
    }
    pws_greenlet_host_settle(berth->pool);
    while (!berth->ends) {
        if (berth->x != NULL) {
            serve(berth);
        }
        rest(berth);
    }
    Py_RETURN_NONE;
}

static PyMethodDef live_method = {"serve_requests", live, METH_NOARGS,
                                  "What a pooled greenlet of the server runs."};

/* Berths */

/* Let the greenlet of a berth that is free return, and do without. For the hub, or who
 * has taken its place. */
static void
dismiss(pws_berth *berth)
{
    if (berth->greenlet == NULL) {
        return;
    }
    berth->ends = true;
    if (PyObject_SetAttrString(berth->greenlet, "parent", berth->pool->hub) < 0) {
        PyErr_WriteUnraisable(berth->greenlet); /* to whom it goes back */
    }
    if (pws_greenlet_switch(berth->pool, berth->greenlet) < 0) {
        pws_call_log_exception(berth->lane, "Error at the end of a greenlet");
    }
    berth->ends = false;
    Py_CLEAR(berth->greenlet);
}

/* Whether nobody else knows the greenlet, which rests. */
static bool
is_ours_alone(const pws_berth *berth)
{
    Py_ssize_t offset = Py_TYPE(berth->greenlet)->tp_weaklistoffset;
    PyObject *const *weak =
        (PyObject *const *)(void *)((char *)berth->greenlet + offset);

    return Py_REFCNT(berth->greenlet) == berth->refs && (offset <= 0 || *weak == NULL);
}

/* Give the berth a greenlet, and let it run up to its first rest. Returns 0 or -1 with
 * an exception. */
static int
hire(pws_berth *berth)
{
    pws_greenlets *pool = berth->pool;
    PyObject *capsule = PyCapsule_New(berth, NULL, NULL), *run = NULL;

    if (capsule != NULL) {
        run = PyCFunction_New(&live_method, capsule);
        Py_DECREF(capsule);
    }
    if (run == NULL) {
        return -1;
    }
    berth->greenlet = PyObject_CallOneArg(pool->make, run);
    Py_DECREF(run);
    if (berth->greenlet == NULL) {
        return -1;
    }
    if (!PyObject_TypeCheck(berth->greenlet, pool->api.type)) {
        PyErr_Format(PyExc_TypeError, "make() has returned %R, not a greenlet",
                     berth->greenlet);
        Py_CLEAR(berth->greenlet);
        return -1;
    }
    if (pws_greenlet_switch(pool, berth->greenlet) < 0) {
        berth->ends = true; /* should it have begun */
        Py_CLEAR(berth->greenlet);
        berth->ends = false;
        return -1;
    }
    berth->refs = Py_REFCNT(berth->greenlet);
    return 0;
}

static void
free_berth(pws_berth *berth)
{
    dismiss(berth);
    if (berth->lane != NULL) {
        pws_lane_free(berth->lane);
    }
    PyMem_Free(berth);
}

/* What most of many berths have is little used: they share what they can. */
static pws_lane *
new_lane(pws_greenlets *pool)
{
    if (!pool->runner.crowded) {
        return pws_lane_new(&pool->hosted->config, pws_greenlet_wait);
    }
    if (pool->model == NULL) {
        pool->model = pws_lane_new(&pool->hosted->config, pws_greenlet_wait);
    }
    return pool->model != NULL ? pws_lane_new_like(pool->model, pws_greenlet_wait)
                               : NULL;
}

static pws_berth *
new_berth(pws_greenlets *pool)
{
    pws_berth *berth = PyMem_Calloc(1, sizeof(*berth));

    if (berth == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    berth->pool = pool;
    berth->hand = -1;
    berth->lane = new_lane(pool);
    if (berth->lane == NULL) {
        PyMem_Free(berth);
        return NULL;
    }
    pws_greenlet_wait_set(berth->lane, berth);
    Py_INCREF(pool->context); /* not that of whoever the hub has served last */
    Py_XSETREF(berth->lane->context, pool->context);
    return berth;
}

static pws_berth *
pop_free(pws_greenlets *pool)
{
    pws_berth *berth = pool->free;

    pool->free = berth->next;
    pool->free_count--;
    if (pool->free_count < pool->free_least) {
        pool->free_least = pool->free_count;
    }
    return berth;
}

/* A berth for a request, with its greenlet; NULL with an exception. */
static pws_berth *
take_berth(pws_greenlets *pool)
{
    pws_berth *berth;

    if (pool->free != NULL) {
        berth = pop_free(pool);
    }
    else {
        berth = new_berth(pool);
        if (berth == NULL) {
            return NULL;
        }
        pool->count++;
    }
    if (berth->greenlet != NULL && !is_ours_alone(berth)) {
        dismiss(berth);
    }
    if (berth->greenlet == NULL && hire(berth) < 0) {
        push_free(pool, berth);
        return NULL;
    }
    return berth;
}

/* What a burst has left behind: half of the berths that nobody has needed since. */
static void
trim(pws_greenlets *pool)
{
    int64_t now_ms = pool->hosted->config.engine->clock.now_ms;
    uint32_t surplus;

    if (now_ms - pool->trim_ms < TRIM_MS) {
        return;
    }
    surplus = pool->free_least > KEPT_FREE ? (pool->free_least - KEPT_FREE + 1) / 2 : 0;
    while (surplus-- > 0) {
        free_berth(pop_free(pool));
        pool->count--;
    }
    pool->trim_ms = now_ms;
    pool->free_least = pool->free_count;
    if (pool->free_count > KEPT_FREE && now_ms + TRIM_MS < pool->runner.due_ms) {
        pool->runner.due_ms = now_ms + TRIM_MS;
    }
}

/* The runner */

static int
run(pws_runner *runner, pws_exchange *x)
{
    pws_greenlets *pool = pool_of(runner);
    pws_berth *berth = take_berth(pool);
    int rc;

    if (berth == NULL) {
        PyErr_WriteUnraisable(pool->make);
        (void)pws_exchange_refuse(x, 503);
        pws_hosted_done(pool->hosted, x);
        return 0;
    }
    berth->x = x;
    append(pool, berth);
    pws_berth_begin_time(berth);
    pws_berths_enter(pool, berth);
    rc = pws_greenlet_go_on(pool, berth->greenlet);
    pws_berths_leave(pool);
    return rc;
}

static bool
may_run(const pws_runner *runner)
{
    return !is_full((const pws_greenlets *)(const void *)runner);
}

static int
go_on(pws_runner *runner, pws_parking *parking)
{
    pws_greenlets *pool = pool_of(runner);
    int rc;

    pws_berths_enter(pool, parking->owner);
    rc = pws_greenlet_wake_parked(pool, parking);
    pws_berths_leave(pool);
    return rc;
}

static int
look_around(pws_runner *runner)
{
    pws_greenlets *pool = pool_of(runner);

    pool->unseen = 0;
    if (pool->nap_first != NULL && pws_greenlet_wake_naps(pool) < 0) {
        return -1;
    }
    if (pws_berths_mind(pool) < 0) {
        return -1;
    }
    trim(pool);
    return 0;
}

static void
abandon(pws_runner *runner)
{
    pws_greenlets *pool = pool_of(runner);

    if (PyThread_get_thread_ident() == pool->thread) {
        Py_XSETREF(pool->forker, pool->api.current());
        PyErr_Clear();
    }
}

unsigned
pws_greenlets_call_off(pws_runner *runner)
{
    pws_greenlets *pool = pool_of(runner);

    for (pws_berth *berth = pool->oldest; berth != NULL; berth = berth->next) {
        PyObject *result;

        if (berth->lane->called_off) {
            continue;
        }
        berth->lane->called_off = true;
        result = PyObject_CallOneArg(pool->call_off, berth->greenlet);
        if (result == NULL) {
            PyErr_WriteUnraisable(pool->call_off);
        }
        Py_XDECREF(result);
    }
    return unfinished(pool);
}

static void
free_pool(pws_greenlets *pool)
{
    pws_greenlet_host_clear(pool);
    Py_CLEAR(pool->context);
    Py_CLEAR(pool->forker);
    if (pool->model != NULL) {
        pws_lane_free(pool->model);
    }
    pws_lane_clear_addresses(pool->addresses);
    pool->hosted->config.addresses = NULL;
    PyMem_Free(pool);
}

/* Who calls this need not be the hub: the greenlets that return come back to him, and
 * those that go on one day to the hub. */
static void
free_berths(pws_greenlets *pool)
{
    PyObject *caller = pool->api.current(), *hub = pool->hub;

    if (caller != NULL && PyThread_get_thread_ident() == pool->thread) {
        pool->hub = caller;
        while (pool->free != NULL) {
            free_berth(pop_free(pool));
            pool->count--;
        }
        pool->hub = hub;
    }
    Py_XDECREF(caller);
}

/* Requests that do not end by being asked, and go on one day, find all as it was. */
static void
end(pws_runner *runner)
{
    pws_greenlets *pool = pool_of(runner);

    free_berths(pool);
    if (unfinished(pool) > 0) {
        pws_log(PWS_LOG_WARNING, "Requests that have not ended in time: %u",
                unfinished(pool));
        pool->is_over = pool->hosted->left_behind = true;
        return;
    }
    free_pool(pool);
}

pws_runner *
pws_greenlets_runner_new(pws_hosted *h, PyObject *host)
{
    pws_greenlets *pool = PyMem_Calloc(1, sizeof(*pool));

    if (pool == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    pool->runner = (pws_runner){.run = run,
                                .may_run = may_run,
                                .go_on = go_on,
                                .look_around = look_around,
                                .abandon = abandon,
                                .free = end,
                                .due_ms = PWS_NEVER};
    pool->hosted = h;
    h->config.addresses = pool->addresses;
    pool->thread = PyThread_get_thread_ident();
    pool->context = PyContext_CopyCurrent();
    if (pool->context == NULL || pws_greenlet_api_load(&pool->api) < 0 ||
        pws_greenlet_host_read(pool, host) < 0) {
        free_pool(pool);
        return NULL;
    }
    return &pool->runner;
}
