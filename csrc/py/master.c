#include "py/master.h"

#include <errno.h>
#include <unistd.h>

#include "engine/poller.h"
#include "proc/mold.h"
#include "proc/signals.h"
#include "proc/upgrade.h"
#include "py/arbiter.h"
#include "py/listeners.h"

typedef struct {
    PyObject_HEAD
    pws_master master;
    pws_arbiter arbiter; /* who decides and wants to know */
    pws_listeners *listeners;
    bool open;
    bool running;
    bool is_mold;      /* this process is one */
    bool is_successor; /* the same, of a new master */
} master_object;

const pws_master *
pws_master_of_worker(PyObject *object)
{
    const master_object *self = (const master_object *)object;

    if (!self->open || self->master.cell == NULL) {
        PyErr_SetString(PyExc_ValueError, "this process is no worker of that master");
        return NULL;
    }
    return &self->master;
}

static int
take_listeners(master_object *self, PyObject *object)
{
    pws_listeners *listeners = (pws_listeners *)object;

    if (Py_TYPE(object) != pws_module_of((PyObject *)self)->listeners_type) {
        PyErr_SetString(PyExc_TypeError, "listeners: expected Listeners");
        return -1;
    }
    if (listeners->addresses > PWS_SLOT_FDS_MAX) {
        PyErr_Format(PyExc_ValueError, "bind: %u addresses, more than %d",
                     listeners->addresses, PWS_SLOT_FDS_MAX);
        return -1;
    }
    self->master.slots = listeners->slots;
    self->master.slots_grow = listeners->grows;
    Py_INCREF(object);
    self->listeners = self->arbiter.listeners = listeners;
    return 0;
}

static PyObject *
construct(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {(char *)"arbiter", (char *)"listeners", NULL};
    PyObject *arbiter, *listeners;
    master_object *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Master", names, &arbiter,
                                     &listeners)) {
        return NULL;
    }
    self = (master_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    Py_INCREF(arbiter);
    self->arbiter.object = arbiter;
    self->open = true;
    if (pws_master_init(&self->master, &pws_arbiter_calls, &self->arbiter) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(self);
        return NULL;
    }
    if (take_listeners(self, listeners) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyObject *
run(PyObject *object, PyObject *values)
{
    master_object *self = (master_object *)object;
    pws_master_settings settings;
    int code;

    if (pws_arbiter_settings(values, &settings) < 0) {
        return NULL;
    }
    if (!self->open || self->running || self->master.cell != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a master runs once");
        return NULL;
    }
    self->running = true;
    code = pws_master_run(&self->master, &settings);
    if (code < 0) {
        self->is_mold = code == PWS_IS_MOLD;
        self->is_successor = code == PWS_IS_SUCCESSOR;
        if (code == PWS_IS_WORKER &&
            pws_listeners_keep(self->listeners, self->master.slot) < 0) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    return PyLong_FromLong(code);
}

static PyObject *
succeed(PyObject *object, PyObject *args)
{
    master_object *self = (master_object *)object;
    int pid;

    if (!PyArg_ParseTuple(args, "i:succeed", &pid)) {
        return NULL;
    }
    pws_upgrade_succeed(&self->master, pid);
    Py_RETURN_NONE;
}

static PyObject *
tell_systemd(PyObject *object, PyObject *args)
{
    master_object *self = (master_object *)object;
    const char *address;
    unsigned long long watchdog_usec;

    if (!PyArg_ParseTuple(args, "yK:tell_systemd", &address, &watchdog_usec)) {
        return NULL;
    }
    if (pws_systemd_open(&self->master.systemd, address, watchdog_usec) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static void
close_all(const pws_mold_request *request)
{
    for (uint32_t i = 1; i < request->fd_count; i++) {
        close(request->fds[i]);
    }
}

static const pws_mold_fork_calls fork_calls = {
    .before = PyOS_BeforeFork,
    .in_parent = PyOS_AfterFork_Parent,
    .in_child = PyOS_AfterFork_Child,
};

/* Fork the worker that was asked for. Returns 0 in it, 1 in the mold. */
static int
fork_worker(master_object *self, const pws_mold_request *request)
{
    pws_master *m = &self->master;
    sigset_t before;
    int rc = -1;

    pws_cell_begin(m->cell);
    if (pws_arbiter_before_fork(&self->arbiter, request->number) == 0) {
        pws_signals_hold(&before);
        rc = pws_mold_fork(&fork_calls);
        if (rc == 0) {
            m->before = before;
            self->is_mold = false;
            if (pws_master_be_worker(m, request) < 0) {
                _exit(0); /* another one has its place by now */
            }
            return 0;
        }
        pws_signals_release(&before);
    }
    if (rc < 0) {
        pws_master_decline(m, request);
    }
    else {
        close(request->fds[0]);
    }
    close_all(request);
    pws_cell_end(m->cell);
    return 1;
}

/* The next thing that the master wants; it also asks whether we are alive, which needs
 * no Python. */
static int
hear_more(const pws_master *m, pws_mold_request *request)
{
    for (;;) {
        int rc = pws_mold_hear(m->order_fd, request);

        if (rc <= 0 || request->order != PWS_LETTER_SIGN) {
            return rc;
        }
        atomic_fetch_add(&m->cell->signs, 1);
    }
}

static PyObject *
hear(PyObject *object, PyObject *Py_UNUSED(unused))
{
    master_object *self = (master_object *)object;
    pws_mold_request request;
    int rc;

    if (!self->is_mold) {
        PyErr_SetString(PyExc_TypeError, "hear() is for molds");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = hear_more(&self->master, &request);
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        if (errno != EINTR) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        return PyErr_CheckSignals() < 0 ? NULL : PyLong_FromLong(0);
    }
    if (rc == 0 || request.order != 0) {
        return PyLong_FromUnsignedLong(rc == 0 ? PWS_LETTER_END : request.order);
    }
    if (request.fd_count != 1 + self->listeners->addresses) {
        pws_log(PWS_LOG_ERROR, "A mold has too few descriptors for a worker");
        pws_master_decline(&self->master, &request);
        close_all(&request);
        return PyLong_FromLong(0);
    }
    if (fork_worker(self, &request) != 0) {
        return PyLong_FromLong(0);
    }
    if (pws_listeners_adopt(self->listeners, request.fds + 1) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
release_signals(PyObject *object, PyObject *Py_UNUSED(unused))
{
    master_object *self = (master_object *)object;

    if (self->master.cell != NULL) {
        pws_signals_release(&self->master.before);
    }
    if (PyErr_CheckSignals() < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
ready(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_master *m = pws_master_of_worker(object);

    if (m == NULL) {
        return NULL;
    }
    pws_cell_ready(m->cell);
    pws_master_tell(m);
    Py_RETURN_NONE;
}

static PyObject *
leave(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_master *m = pws_master_of_worker(object);

    if (m == NULL) {
        return NULL;
    }
    atomic_store(&m->cell->closed, true); /* first: it asks for nothing, it goes */
    atomic_store(&m->cell->leaving, true);
    pws_master_tell(m);
    Py_RETURN_NONE;
}

static PyObject *
ask_successor(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_master *m = pws_master_of_worker(object);

    if (m == NULL) {
        return NULL;
    }
    atomic_store(&m->cell->leaving, true);
    pws_master_tell(m);
    Py_RETURN_NONE;
}

/* A call that takes long has come further. */
static PyObject *
notify(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_master *m = pws_master_of_worker(object);

    if (m == NULL) {
        return NULL;
    }
    if (atomic_load(&m->cell->busy_since_ms) != 0) {
        pws_cell_begin(m->cell);
    }
    Py_RETURN_NONE;
}

/* No engine will read letters here, nor answer them. */
static PyObject *
be_foreign(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_master *m = pws_master_of_worker(object);

    if (m == NULL) {
        return NULL;
    }
    atomic_store(&m->cell->foreign, true);
    Py_RETURN_NONE;
}

/* A sign of life of one that is foreign. */
static PyObject *
beat(PyObject *object, PyObject *unused)
{
    const pws_master *m = pws_master_of_worker(object);

    if (m == NULL) {
        return NULL;
    }
    atomic_fetch_add(&m->cell->signs, 1);
    return notify(object, unused);
}

/* For hooks in the master; NULL with an exception anywhere else. */
static pws_master *
here(PyObject *object)
{
    master_object *self = (master_object *)object;

    if (!self->open || !self->running || self->master.cell != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this process is no master that runs");
        return NULL;
    }
    return &self->master;
}

static PyObject *
resize(PyObject *object, PyObject *number)
{
    pws_master *m = here(object);
    long workers = PyLong_AsLong(number);

    if (m == NULL || (workers == -1 && PyErr_Occurred())) {
        return NULL;
    }
    if (workers < 0 || workers > PWS_WORKERS_MAX) {
        PyErr_Format(PyExc_ValueError, "num_workers: expected 0 to %d, got %ld",
                     PWS_WORKERS_MAX, workers);
        return NULL;
    }
    pws_master_resize(m, (unsigned)workers);
    Py_RETURN_NONE;
}

static PyObject *
ask_reload(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_master *m = here(object);

    if (m == NULL) {
        return NULL;
    }
    pws_master_ask_reload(m);
    Py_RETURN_NONE;
}

static PyObject *
hurry(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_master *m = here(object);

    if (m == NULL) {
        return NULL;
    }
    pws_master_hurry(m);
    Py_RETURN_NONE;
}

static PyObject *
wake(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_master *m = here(object);

    if (m == NULL) {
        return NULL;
    }
    pws_master_tell(m);
    Py_RETURN_NONE;
}

static PyObject *
tells_stacks(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_master *m = pws_master_of_worker(object);

    if (m == NULL) {
        return NULL;
    }
    atomic_store(&m->cell->dumps, true);
    Py_RETURN_NONE;
}

/* The master interrupts a certain request; somebody else (no number) whatever runs. */
static PyObject *
may_interrupt(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_master *m = pws_master_of_worker(object);
    const pws_hand *hand;
    uint64_t wanted;

    if (m == NULL) {
        return NULL;
    }
    hand = &m->cell->hands[0];
    wanted = atomic_load(&hand->aborted);
    return PyBool_FromLong(wanted != 0
                               ? pws_hand_is_late(hand, wanted)
                               : pws_hand_is_at(hand, atomic_load(&hand->sequence)));
}

static PyObject *
may_complain(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_master *m = pws_master_of_worker(object);

    if (m == NULL) {
        return NULL;
    }
    return PyBool_FromLong(!atomic_exchange(&m->workers.board->complained, true));
}

static PyObject *
reason(PyObject *object, void *Py_UNUSED(unused))
{
    const char *text = ((master_object *)object)->master.reason;

    if (text == NULL) {
        Py_RETURN_NONE;
    }
    return PyUnicode_FromString(text);
}

static int
traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((master_object *)object)->arbiter.object);
    return 0;
}

static int
clear(PyObject *object)
{
    Py_CLEAR(((master_object *)object)->arbiter.object);
    return 0;
}

static void
deallocate(PyObject *object)
{
    master_object *self = (master_object *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    if (self->open) {
        pws_master_close(&self->master);
    }
    (void)clear(object);
    Py_CLEAR(self->listeners);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"run", run, METH_O,
     "run(settings): keep workers alive. Returns an exit code, or None in a forked "
     "worker or mold, where all signals are blocked, and in a process that is to "
     "execute a new master."},
    {"succeed", succeed, METH_VARARGS,
     "succeed(pid): before run(), watch our parent, the master that we succeed."},
    {"tell_systemd", tell_systemd, METH_VARARGS,
     "tell_systemd(address, watchdog_usec): before run(), tell it there how we are."},
    {"resize", resize, METH_O, "resize(workers): so many from now on."},
    {"ask_reload", ask_reload, METH_NOARGS, "ask_reload(): do what SIGHUP does, soon."},
    {"hurry", hurry, METH_NOARGS, "hurry(): fork who is missing, without a pause."},
    {"wake", wake, METH_NOARGS, "wake(): look at everything once."},
    {"hear", hear, METH_NOARGS,
     "hear(): in a mold, wait for what the master wants next, and do it: "
     "returns its orders, or None in a worker that was forked, which has the sockets."},
    {"release_signals", release_signals, METH_NOARGS,
     "release_signals(): in a worker, once it has its handlers."},
    {"ready", ready, METH_NOARGS, "ready(): in a worker, once it can serve."},
    {"leave", leave, METH_NOARGS,
     "leave(): in a worker that ends by itself, so that it is succeeded, its sockets "
     "are served, and it is killed should it hang."},
    {"ask_successor", ask_successor, METH_NOARGS,
     "ask_successor(): in a worker that is to go when another one serves."},
    {"notify", notify, METH_NOARGS,
     "notify(): in a worker, the time for the call in hand begins anew."},
    {"be_foreign", be_foreign, METH_NOARGS,
     "be_foreign(): in a worker that has no engine: it reads order_fd itself, and has "
     "to call beat()."},
    {"beat", beat, METH_NOARGS, "beat(): in such a worker, a sign of life."},
    {"tells_stacks", tells_stacks, METH_NOARGS,
     "tells_stacks(): STACKS_SIGNAL has a handler now, which writes to stacks_fd."},
    {"may_interrupt", may_interrupt, METH_NOARGS,
     "may_interrupt(): in a worker that serves, at a SIGABRT: whether the app is in "
     "the "
     "request that it is for."},
    {"may_complain", may_complain, METH_NOARGS,
     "may_complain(): whether this is the first of the workers that boot now to tell "
     "in "
     "full why it cannot start."},
    {NULL, NULL, 0, NULL},
};

static PyObject *
is_mold(PyObject *object, void *Py_UNUSED(unused))
{
    return PyBool_FromLong(((master_object *)object)->is_mold);
}

static PyObject *
is_successor(PyObject *object, void *Py_UNUSED(unused))
{
    return PyBool_FromLong(((master_object *)object)->is_successor);
}

static PyObject *
place(PyObject *object, void *Py_UNUSED(unused))
{
    const pws_master *m = pws_master_of_worker(object);

    return m != NULL ? PyLong_FromLong(m->cell - m->workers.board->cells) : NULL;
}

static PyObject *
stacks_fd(PyObject *object, void *Py_UNUSED(unused))
{
    return PyLong_FromLong(((master_object *)object)->master.stacks.pipe[1]);
}

static PyObject *
order_fd(PyObject *object, void *Py_UNUSED(unused))
{
    const pws_master *m = pws_master_of_worker(object);

    return m != NULL ? PyLong_FromLong(m->order_fd) : NULL;
}

static PyGetSetDef properties[] = {
    {"order_fd", order_fd, NULL,
     "Of a worker: where the master's orders come, a byte each; its end: the master's.",
     NULL},
    {"stacks_fd", stacks_fd, NULL, "Where a process writes its Python stacks.", NULL},
    {"place", place, NULL, "Of a worker, among PLACES: no other has it.", NULL},
    {"is_mold", is_mold, NULL, "Whether this process is a mold.", NULL},
    {"is_successor", is_successor, NULL,
     "Whether this process is to execute a new master.", NULL},
    {"reason", reason, NULL, "Why the workers could not start; else None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, construct},
    {Py_tp_dealloc, deallocate},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_tp_doc, (char *)"Master(arbiter, listeners): forks workers and replaces them."},
    {0, NULL},
};

PyType_Spec pws_master_spec = {
    .name = "pywsgiserve._core.Master",
    .basicsize = sizeof(master_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};
