#include "py/threads.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/evict.h"
#include "py/call.h"
#include "py/handover.h"
#include "py/turn.h"
#include "py/unlocked.h"
#include "py/warden.h"

/* What one thread has. */
typedef struct {
    pws_threads *all;
    pws_seat *seat;
    pws_lane *lane;
    PyObject *thread; /* threading.Thread */
    unsigned long ident;
    bool interrupted; /* an exception was raised in it that it may not have seen yet */
} worker;

struct pws_threads {
    pws_lane_config config;
    pws_crew crew;
    pws_handover handover;
    pws_warden warden;
    worker *workers;
    unsigned count, started;
};

static const char CAPSULE[] = "pywsgiserve._core.worker";

/* The hand of the board that shows the request; NULL: none does. */
static pws_hand *
own_hand(const worker *w)
{
    return w->all->config.engine->abandoned ? NULL : w->seat->call->hand;
}

static void
enter_app(worker *w, pws_exchange *x)
{
    const pws_request *req = &x->request;
    pws_hand *hand = own_hand(w);

    if (hand != NULL) {
        pws_hand_begin(hand, pws_request_slice(req, req->method),
                       pws_request_slice(req, req->target), pws_clock_now_ms());
    }
    pws_crew_enter(&w->all->crew, w->seat, x);
}

/* A request is done: as pws_turn_count, for several at once. */
static void
count(const pws_threads *all)
{
    const pws_tie *tie = all->config.tie;

    if (tie != NULL && pws_cell_count_shared(tie->master->cell) == tie->max_requests) {
        pws_log(PWS_LOG_INFO, "Autorestarting worker after current request.");
        atomic_store(&tie->master->cell->leaving, true);
        pws_master_tell(tie->master);
    }
}

/* What was raised for this request, which is over, is not for the next one. */
static void
forget_interrupt(worker *w)
{
    Py_BEGIN_CRITICAL_SECTION(w->thread);
    if (w->interrupted) {
        w->interrupted = false;
        (void)PyThreadState_SetAsyncExc(w->ident, NULL);
    }
    Py_END_CRITICAL_SECTION();
}

static void
run(worker *w, pws_exchange *x)
{
    pws_hand *hand;

    enter_app(w, x);
    pws_call_app(w->lane, x);
    if (w->all->config.engine->abandoned) {
        pws_turn_end_child();
    }
    hand = own_hand(w);
    if (hand != NULL) {
        pws_hand_end(hand);
    }
    pws_crew_done(w->seat, x);
    forget_interrupt(w);
    count(w->all);
    pws_handover_give(&w->all->handover, w->seat->began_ns + w->seat->took_ns);
}

/* Returns false when the thread is to end. */
static bool
take_turn(worker *w)
{
    pws_crew *crew = &w->all->crew;
    pws_exchange *x;
    bool goes_on = true;

    pws_turn_take_crew_lease(crew);
    x = pws_crew_next(crew, w->seat);
    if (x != NULL) {
        run(w, x);
    }
    pws_lane_drop_released(w->all->config.engine);
    if (x == NULL) {
        Py_BEGIN_ALLOW_THREADS
        goes_on = pws_crew_wait(crew, w->seat);
        pws_handover_want(&w->all->handover);
        Py_END_ALLOW_THREADS
        pws_handover_enter(&w->all->handover);
    }
    return goes_on;
}

/* The target of a thread. */
static PyObject *
work(PyObject *capsule, PyObject *Py_UNUSED(unused))
{
    worker *w = PyCapsule_GetPointer(capsule, CAPSULE);

    if (w == NULL) {
        return NULL;
    }
    w->ident = PyThread_get_thread_ident();
    while (take_turn(w)) {
    }
    pws_crew_leave(&w->all->crew);
    Py_RETURN_NONE;
}

/* Waits for a client */

static void
pause_app(worker *w)
{
    pws_hand *hand = own_hand(w);

    pws_relief_leave_call(w->seat->call);
    if (hand != NULL) {
        pws_hand_pause(hand, pws_clock_now_ms());
    }
}

static void
resume_app(worker *w, pws_exchange *x)
{
    pws_hand *hand = own_hand(w);

    if (hand != NULL) {
        pws_hand_resume(hand, pws_clock_now_ms());
    }
    pws_relief_enter_call(&w->all->config.engine->relief, w->seat->call, x);
}

/* Room in the spool is made by cutting the slowest reader, as in a sync worker. */
static bool
make_room(pws_crew *crew, const pws_crew_wish *wish)
{
    bool made;

    if ((wish->what & PWS_WRITABLE) == 0 || wish->x->out.shortage <= PWS_SHORT_OF_OWN) {
        return false;
    }
    pws_crew_take(crew);
    made = pws_evict_for_spool(crew->engine);
    pws_lease_drop(&crew->engine->lease);
    return made;
}

static int
wait_for_client(pws_lane *lane, unsigned what, int64_t timeout_ms)
{
    worker *w = lane->executor;
    pws_exchange *x = lane->x;
    pws_crew *crew = &w->all->crew;
    pws_crew_wish wish = {.x = x,
                          .what = what,
                          .emptied = atomic_load(&x->emptied),
                          .deadline_ms = PWS_NEVER,
                          .patience_ms = timeout_ms};
    int rc;

    if (lane->engine->abandoned) {
        return 0;
    }
    if (timeout_ms > 0) {
        wish.deadline_ms = pws_clock_now_ms() + timeout_ms;
    }
    pws_lane_step_out(lane);
    pause_app(w);
    Py_BEGIN_ALLOW_THREADS
    rc = make_room(crew, &wish) ? PWS_PARK_HAPPENED : pws_crew_park(crew, &wish);
    pws_handover_want(&w->all->handover);
    Py_END_ALLOW_THREADS
    pws_handover_enter(&w->all->handover);
    resume_app(w, x);
    pws_lane_drop_released(lane->engine);
    if (pws_lane_step_in(lane) < 0) {
        return -1;
    }
    if (rc == PWS_PARK_CANCELLED) {
        return pws_exchange_is_taken(x) ? 0 : 1;
    }
    return rc;
}

static void
rouse(pws_lane *lane)
{
    worker *w = lane->executor;

    if (lane->x != NULL) {
        Py_BEGIN_ALLOW_THREADS
        pws_crew_rouse(&w->all->crew, lane->x);
        Py_END_ALLOW_THREADS
    }
}

/* The beginning */

static PyObject *
new_thread(worker *w)
{
    static PyMethodDef method = {"work", work, METH_NOARGS, NULL};
    PyObject *module = PyImport_ImportModule("threading");
    PyObject *frames =
        module != NULL ? PyImport_ImportModule("pywsgiserve.frames") : NULL;
    PyObject *capsule = PyCapsule_New(w, CAPSULE, NULL);
    PyObject *target = capsule != NULL ? PyCFunction_New(&method, capsule) : NULL;
    PyObject *make = NULL, *args = NULL, *named = NULL, *thread = NULL;

    if (frames != NULL && target != NULL) {
        make = PyObject_GetAttrString(module, "Thread");
        args = PyTuple_New(0);
        named = Py_BuildValue(
            "{s:N,s:(O),s:N,s:O}", "target",
            PyObject_GetAttrString(frames, "in_thread"), "args", target, "name",
            PyUnicode_FromFormat("pywsgiserve-%u", w->all->started), "daemon", Py_True);
    }
    if (make != NULL && args != NULL && named != NULL) {
        thread = PyObject_Call(make, args, named);
    }
    Py_XDECREF(named);
    Py_XDECREF(args);
    Py_XDECREF(make);
    Py_XDECREF(target);
    Py_XDECREF(capsule);
    Py_XDECREF(frames);
    Py_XDECREF(module);
    return thread;
}

/* Returns 0 or -1 with an exception set. */
static int
start_thread(pws_threads *all, unsigned i)
{
    worker *w = &all->workers[i];
    const pws_tie *tie = all->config.tie;
    PyObject *result = NULL;

    w->all = all;
    w->seat = &all->crew.seats[i];
    if (tie != NULL && i < PWS_BOARD_HANDS) {
        w->seat->call->hand = &tie->master->cell->hands[i];
    }
    w->lane = pws_lane_new(&all->config, wait_for_client);
    if (w->lane == NULL) {
        return -1;
    }
    w->lane->executor = w;
    w->lane->rouse = rouse;
    w->thread = new_thread(w);
    pws_crew_join(&all->crew);
    if (w->thread != NULL) {
        result = PyObject_CallMethod(w->thread, "start", NULL);
    }
    if (result == NULL) {
        pws_crew_leave(&all->crew);
        return -1;
    }
    Py_DECREF(result);
    all->started++;
    return 0;
}

/* Say which thread could not be had. */
static void
name_failure(unsigned i, unsigned n)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyErr_Format(PyExc_RuntimeError, "threads: number %u of %u cannot be started: %S",
                 i + 1, n, value != NULL ? value : Py_None);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

pws_threads *
pws_threads_new(const pws_lane_config *config, unsigned n)
{
    pws_threads *all = PyMem_Calloc(1, sizeof(*all));

    if (all == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    all->config = *config;
    all->config.multithread = true;
#ifdef Py_GIL_DISABLED
    all->config.memos = NULL; /* one for each lane */
#endif
    all->count = n;
    all->workers = PyMem_Calloc(n, sizeof(*all->workers));
    if (all->workers == NULL || pws_crew_init(&all->crew, config->engine, n) < 0) {
        PyMem_Free(all->workers);
        PyMem_Free(all);
        PyErr_NoMemory();
        return NULL;
    }
    pws_warden_init(&all->warden, &all->config, &all->crew);
    for (unsigned i = 0; i < n; i++) {
        if (start_thread(all, i) < 0) {
            name_failure(i, n);
            (void)pws_threads_free(all);
            return NULL;
        }
    }
    return all;
}

/* Serving */

int
pws_threads_serve(pws_threads *all)
{
    int rc = pws_warden_serve(&all->warden);

    pws_warden_send_home(&all->warden);
    return rc;
}

pws_warden *
pws_threads_warden(pws_threads *all)
{
    return &all->warden;
}

/* The end */

static int
join(worker *w)
{
    PyObject *result =
        w->thread != NULL ? PyObject_CallMethod(w->thread, "join", NULL) : NULL;

    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

bool
pws_threads_free(pws_threads *all)
{
    PyObject *type, *value, *traceback;
    unsigned present;

    PyErr_Fetch(&type, &value, &traceback);
    pws_warden_send_home(&all->warden);
    pws_relief_end(&all->config.engine->relief);
    present = all->warden.begun ? atomic_load(&all->crew.present) : 0;
    if (present > 0) {
        pws_log(PWS_LOG_WARNING, "%u threads are still in the app: left behind",
                present);
        PyErr_Restore(type, value, traceback);
        return false;
    }
    for (unsigned i = 0; i < all->count; i++) {
        worker *w = &all->workers[i];

        if (i < all->started && join(w) < 0) {
            PyErr_WriteUnraisable(w->thread);
        }
        Py_XDECREF(w->thread);
        if (w->lane != NULL) {
            pws_lane_free(w->lane);
        }
    }
    pws_warden_close(&all->warden);
    pws_crew_free(&all->crew);
    all->config.engine->lends_waits = false;
    all->config.engine->relief.crew = NULL;
    PyMem_Free(all->workers);
    PyMem_Free(all);
    PyErr_Restore(type, value, traceback);
    return true;
}

/* Whether the request that this thread runs is to be interrupted. */
static bool
is_wanted(const worker *w, bool any)
{
    const pws_hand *hand = w->seat->call->hand;
    uint64_t number;

    if (hand == NULL) {
        return any && atomic_load(&w->seat->call->turn) % 2 != 0;
    }
    number = atomic_load(any ? &hand->sequence : &hand->aborted);
    return number != 0 && pws_hand_is_at(hand, number);
}

static bool
master_asks(const pws_threads *all)
{
    for (unsigned i = 0; i < all->started; i++) {
        const pws_hand *hand = all->workers[i].seat->call->hand;

        if (hand != NULL && atomic_load(&hand->aborted) != 0) {
            return true;
        }
    }
    return false;
}

int
pws_threads_interrupt(pws_threads *all, PyObject *exception)
{
    /* Who is silent and has a loop to himself is in no request: it is the loop. */
    bool any = !master_asks(all) && !pws_warden_is_guest(&all->warden);
    int n = 0;

    for (unsigned i = 0; i < all->started; i++) {
        worker *w = &all->workers[i];

        Py_BEGIN_CRITICAL_SECTION(w->thread);
        if (is_wanted(w, any)) {
            w->interrupted = true;
            if (PyThreadState_SetAsyncExc(w->ident, exception) > 0) {
                n++;
            }
        }
        Py_END_CRITICAL_SECTION();
    }
    return n;
}
