#include "py/lane.h"

#include <time.h>

#include "py/callable.h"
#include "py/client_socket.h"
#include "py/environ.h"
#include "py/environ_memo.h"
#include "py/input.h"
#include "py/turn.h"
#include "py/unlocked.h"

void
pws_lane_link_to(PyObject *object, pws_lane_link *link, pws_lane *lane)
{
    (void)object; /* with the GIL */
    Py_BEGIN_CRITICAL_SECTION(object);
    atomic_store_explicit(link, lane, memory_order_relaxed);
    Py_END_CRITICAL_SECTION();
}

/* Attach all objects of the lane to it, or detach them. */
static void
attach(pws_lane *lane, pws_lane *to)
{
    pws_callable_attach(lane->start_response, to);
    pws_callable_attach(lane->write, to);
    pws_callable_attach(lane->early_hints, to);
    pws_input_attach(lane->input, to);
    pws_client_socket_attach(lane->socket, to);
}

/* One an address: several listeners in a row may have the same. */
static int
make_templates(pws_lane *lane)
{
    unsigned next = 0;

    for (unsigned i = 0; i < lane->engine->own_listeners; i++) {
        const pws_listener *l = &lane->engine->listeners[i];

        if (l->index != next) {
            continue;
        }
        lane->templates[next] = pws_environ_template(lane, l);
        if (lane->templates[next] == NULL) {
            return -1;
        }
        next++;
    }
    lane->template_count = next;
    return 0;
}

/* Put the lane's new objects in place of its old ones. */
static int
renew_templates(pws_lane *lane)
{
    for (unsigned i = 0; i < lane->template_count; i++) {
        if (pws_environ_set_own(lane, lane->templates[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
make_callables(pws_lane *lane)
{
    Py_XSETREF(lane->start_response, pws_start_response_new(lane->module));
    Py_XSETREF(lane->write, pws_write_new(lane->module));
    return lane->start_response != NULL && lane->write != NULL ? 0 : -1;
}

/* Those that the environ has. The kept environs have the old ones from now on. */
static int
make_values(pws_lane *lane)
{
    pws_module *module = lane->module;

    Py_XSETREF(lane->input, pws_input_new(module));
    lane->memo_count = 0; /* no environ has this one */
    Py_XSETREF(lane->early_hints, pws_early_hints_new(module));
    Py_XSETREF(lane->socket, pws_client_socket_new(module));
    if (lane->early_hints == NULL || lane->input == NULL || lane->socket == NULL) {
        return -1;
    }
    return renew_templates(lane);
}

static int
make_objects(pws_lane *lane)
{
    return make_callables(lane) < 0 ? -1 : make_values(lane);
}

/* A thread's ways: see lane.h. */

static uintptr_t
this_thread(const pws_lane *Py_UNUSED(lane))
{
    return (uintptr_t)PyThread_get_thread_ident();
}

static int
pause_without_gil(pws_lane *Py_UNUSED(lane))
{
    const struct timespec moment = {0, 200 * 1000};

    Py_BEGIN_ALLOW_THREADS
    nanosleep(&moment, NULL);
    Py_END_ALLOW_THREADS
    return 0;
}

static void
wake_poller(pws_lane *lane)
{
    pws_engine_wake(lane->engine);
}

static pws_lane *
new_lane(const pws_lane_config *config, const pws_lane *model, pws_lane_wait wait)
{
    pws_lane *lane = PyMem_Calloc(1, sizeof(*lane));

    if (lane == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    lane->config = config;
    lane->module = config->module;
    lane->engine = config->engine;
    lane->model = model;
    lane->wait = wait;
    lane->self = this_thread;
    lane->pause = pause_without_gil;
    lane->rouse = wake_poller;
    if (model == NULL) {
        lane->templates =
            PyMem_Calloc(lane->engine->own_listeners + 1, sizeof(PyObject *));
    }
    lane->addresses = config->addresses;
    if (lane->addresses == NULL) {
        lane->addresses = PyMem_Calloc(PWS_ADDRESS_CACHE, sizeof(*lane->addresses));
    }
    lane->memos = config->memos;
    if (lane->memos == NULL) {
        lane->memos = PyMem_Calloc(1, sizeof(*lane->memos));
    }
    if ((lane->templates == NULL && model == NULL) || lane->addresses == NULL ||
        lane->memos == NULL) {
        PyErr_NoMemory();
        pws_lane_free(lane);
        return NULL;
    }
    lane->context = PyContext_CopyCurrent();
    if (lane->context == NULL || make_objects(lane) < 0 ||
        (model == NULL && make_templates(lane) < 0)) {
        pws_lane_free(lane);
        return NULL;
    }
    if (lane->template_count > 0) {
        pws_environ_have_ready(lane->templates[0]);
    }
    return lane;
}

pws_lane *
pws_lane_new(const pws_lane_config *config, pws_lane_wait wait)
{
    return new_lane(config, NULL, wait);
}

pws_lane *
pws_lane_new_like(const pws_lane *model, pws_lane_wait wait)
{
    return new_lane(model->config, model, wait);
}

/* For `busy`: who is no thread, and none of its executions. */
#define NOBODY_ELSE ((uintptr_t)1)

/* Who was inside when the app has forked is not in the child, and never leaves there.
 */
static void
end_child_that_waits(const pws_lane *lane)
{
    if (lane->engine->abandoned) {
        pws_turn_end_child();
    }
}

/* Returns whether nobody is inside, nor on the way, and keeps others out until
 * `open_up`: the GIL does, as no Python code runs until then; without it they wait as
 * if somebody were inside. */
static bool
make_ours(pws_lane *lane)
{
#ifdef Py_GIL_DISABLED
    uintptr_t nobody = 0;

    if (!atomic_compare_exchange_strong(&lane->busy, &nobody, NOBODY_ELSE)) {
        return false;
    }
    if (atomic_load(&lane->waiters) == 0) {
        return true;
    }
    pws_lane_leave(lane);
    return false;
#else
    return atomic_load_explicit(&lane->busy, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&lane->waiters, memory_order_relaxed) == 0;
#endif
}

static void
open_up(pws_lane *lane)
{
#ifdef Py_GIL_DISABLED
    pws_lane_leave(lane);
#else
    (void)lane;
#endif
}

/* Nobody else may be inside an object when its request goes. Open up when it has, if
 * the lane stays. */
static void
see_others_out(pws_lane *lane)
{
    if (make_ours(lane)) {
        return;
    }
    atomic_store(&lane->ending, true);
    do {
        end_child_that_waits(lane);
        lane->rouse(lane);
        if (lane->pause(lane) < 0) {
            PyErr_Clear(); /* who wants to end this request has come too late */
        }
    } while (!make_ours(lane));
    atomic_store(&lane->ending, false);
}

void
pws_lane_drop_released(pws_engine *e)
{
    pws_segment *segment = pws_engine_released(e);

    while (segment != NULL) {
        pws_segment *next = segment->next;

        Py_DECREF((PyObject *)segment->object);
        free(segment);
        segment = next;
    }
}

void
pws_lane_clear_addresses(pws_address_text *addresses)
{
    for (int i = 0; i < PWS_ADDRESS_CACHE; i++) {
        Py_CLEAR(addresses[i].text);
    }
}

void
pws_lane_free(pws_lane *lane)
{
    see_others_out(lane);
    Py_CLEAR(lane->context);
    if (lane->templates != NULL) {
        for (unsigned i = 0; i < lane->engine->own_listeners; i++) {
            Py_CLEAR(lane->templates[i]);
        }
        PyMem_Free(lane->templates);
    }
    Py_CLEAR(lane->start_response);
    Py_CLEAR(lane->write);
    Py_CLEAR(lane->early_hints);
    Py_CLEAR(lane->input);
    Py_CLEAR(lane->socket);
    Py_CLEAR(lane->status);
    Py_CLEAR(lane->headers);
    if (lane->addresses != NULL && lane->addresses != lane->config->addresses) {
        pws_lane_clear_addresses(lane->addresses);
        PyMem_Free(lane->addresses);
    }
    if (lane->memos != NULL) {
        pws_environ_memos_forget(lane);
        if (lane->memos != lane->config->memos) {
            pws_environ_memos_clear(lane->memos);
            PyMem_Free(lane->memos);
        }
    }
    PyMem_Free(lane);
}

int
pws_lane_begin(pws_lane *lane, pws_exchange *x)
{
    lane->x = x;
    lane->called_off = false;
    if (lane->incomplete && make_objects(lane) < 0) {
        return -1;
    }
    lane->incomplete = false;
    attach(lane, lane);
    return 0;
}

/* Whether somebody but the lane holds one of them. */
static bool
app_kept_callable(const pws_lane *lane)
{
    return Py_REFCNT(lane->start_response) > 1 || Py_REFCNT(lane->write) > 1;
}

/* The same, but for its templates and memos. */
static bool
app_kept_value(const pws_lane *lane)
{
    Py_ssize_t ours =
        1 + (Py_ssize_t)lane->template_count + (Py_ssize_t)lane->memo_count;

    return Py_REFCNT(lane->early_hints) > ours || Py_REFCNT(lane->input) > ours ||
           Py_REFCNT(lane->socket) > ours;
}

/* Many apps keep the environ of each request until garbage is collected, in a request
 * object that is in a cycle (Django's): so this must be cheap. */
static int
replace_kept(pws_lane *lane)
{
    if (app_kept_callable(lane) && make_callables(lane) < 0) {
        return -1;
    }
    return app_kept_value(lane) ? make_values(lane) : 0;
}

void
pws_lane_end(pws_lane *lane)
{
    see_others_out(lane);
    if (!lane->incomplete) {
        attach(lane, NULL);
    }
    lane->x = NULL;
    open_up(lane);
    if (!lane->incomplete && pws_client_socket_close(lane->socket) < 0) {
        PyErr_WriteUnraisable(lane->socket);
    }
    Py_CLEAR(lane->status);
    Py_CLEAR(lane->headers);
    if (!lane->incomplete && replace_kept(lane) < 0) {
        PyErr_WriteUnraisable(NULL);
        lane->incomplete = true;
    }
}

/* Let others go on until nobody is inside, then go in. Returns 0 or -1 with an
 * exception: it is not inside. */
static int
go_in(pws_lane *lane, uintptr_t self)
{
    uintptr_t nobody = 0;

    while (!atomic_compare_exchange_strong(&lane->busy, &nobody, self)) {
        nobody = 0;
        end_child_that_waits(lane);
        if (lane->pause(lane) < 0) {
            return -1;
        }
    }
    return 0;
}

static void
count_waiter(pws_lane *lane, unsigned more)
{
#ifdef Py_GIL_DISABLED
    atomic_fetch_add(&lane->waiters, more);
#else
    unsigned now = atomic_load_explicit(&lane->waiters, memory_order_relaxed);

    atomic_store_explicit(&lane->waiters, now + more, memory_order_relaxed);
#endif
}

/* The lane, which does not go away then until we are not on the way any more; or NULL.
 */
static pws_lane *
come(PyObject *object, pws_lane_link *link)
{
    pws_lane *lane;

    (void)object; /* with the GIL */
    Py_BEGIN_CRITICAL_SECTION(object);
    lane = pws_lane_linked(link);
    if (lane != NULL) {
        count_waiter(lane, 1);
    }
    Py_END_CRITICAL_SECTION();
    return lane;
}

static int
go_in_once(pws_lane *lane)
{
    uintptr_t self = lane->self(lane);

    if (atomic_load_explicit(&lane->busy, memory_order_relaxed) == self) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this thread is inside an object of the request already");
        return -1;
    }
    return go_in(lane, self);
}

pws_lane *
pws_lane_enter(PyObject *object, pws_lane_link *link, PyObject *ended, const char *text)
{
    pws_lane *lane = come(object, link);
    int rc;

    if (lane == NULL) {
        PyErr_SetString(ended, text);
        return NULL;
    }
    rc = go_in_once(lane);
    count_waiter(lane, -1U);
    if (rc < 0) {
        return NULL;
    }
    if (pws_lane_linked(link) != lane || atomic_load(&lane->ending)) {
        pws_lane_leave(lane);
        PyErr_SetString(ended, text);
        return NULL;
    }
    return lane;
}

void
pws_lane_leave(pws_lane *lane)
{
    atomic_store_explicit(&lane->busy, 0, memory_order_release);
}

void
pws_lane_step_out(pws_lane *lane)
{
    count_waiter(lane, 1);
    pws_lane_leave(lane);
}

int
pws_lane_step_in(pws_lane *lane)
{
    PyObject *type = NULL, *value = NULL, *traceback = NULL;
    uintptr_t self = lane->self(lane);

    while (go_in(lane, self) < 0) {
        if (type != NULL) {
            PyErr_Clear(); /* the first one counts */
        }
        else {
            PyErr_Fetch(&type, &value, &traceback);
        }
    }
    count_waiter(lane, -1U);
    if (type != NULL) {
        PyErr_Restore(type, value, traceback);
        return -1;
    }
    if (atomic_load(&lane->ending)) {
        PyErr_SetString(PyExc_ValueError, "the request has ended");
        return -1;
    }
    return 0;
}
