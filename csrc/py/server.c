#include "py/server.h"

#include <fcntl.h>
#include <unistd.h>

#include "py/hosted.h"
#include "py/inline.h"
#include "py/listeners.h"
#include "py/master.h"
#include "py/settings.h"

typedef struct {
    PyObject_HEAD
    pws_settings settings;
    pws_engine engine;
    bool engine_open;
    bool serving;
    pws_hosted hosted; /* between begin() and end() */
    PyObject *app;     /* of that time; else NULL */
    pws_listeners *listeners;
    bool owns_listeners; /* nobody else closes them */
    PyObject *master;    /* NULL: there is none */
    pws_tie tie;
    PyObject *before_request, *after_request; /* NULL: no such hook */
    bool multiprocess;
    int wake_pipe[2]; /* read end, write end; -1: none */
    pws_orders orders;
    int64_t graceful_ms;
    PyObject *log_exception;
    PyObject *errors; /* wsgi.errors */
    PyObject *software;
    PyObject *script_name;
} server_object;

static void
close_pipe(server_object *self)
{
    for (int i = 0; i < 2; i++) {
        if (self->wake_pipe[i] >= 0) {
            close(self->wake_pipe[i]);
            self->wake_pipe[i] = -1;
        }
    }
}

static void
end_hosted(server_object *self)
{
    if (self->app != NULL) {
        pws_hosted_end(&self->hosted);
        self->serving = false;
        Py_CLEAR(self->app);
    }
}

static void
close_all(server_object *self)
{
    end_hosted(self);
    if (self->engine_open) {
        self->engine_open = false;
        pws_engine_close(&self->engine);
        pws_lane_drop_released(&self->engine);
    }
    if (self->listeners != NULL && self->owns_listeners) {
        for (unsigned i = 0; i < self->listeners->count; i++) {
            pws_listener_close(&self->listeners->items[i]);
        }
    }
    close_pipe(self);
    pws_settings_clear(&self->settings);
}

/* Those that somebody else has opened, or our own. */
static int
take_listeners(server_object *self, PyObject *config, PyObject *listeners)
{
    pws_module *module = pws_module_of((PyObject *)self);

    if (listeners == Py_None) {
        listeners = PyObject_CallOneArg((PyObject *)module->listeners_type, config);
        self->owns_listeners = true;
    }
    else if (Py_TYPE(listeners) == module->listeners_type) {
        Py_INCREF(listeners);
    }
    else {
        PyErr_SetString(PyExc_TypeError, "listeners: expected Listeners or None");
        return -1;
    }
    self->listeners = (pws_listeners *)listeners;
    return listeners != NULL ? 0 : -1;
}

static int
open_engine(server_object *self)
{
    if (pipe2(self->wake_pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
        self->wake_pipe[0] = self->wake_pipe[1] = -1;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (pws_engine_init(&self->engine, &self->settings.engine, self->listeners->items,
                        self->listeners->count) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->engine_open = true;
    self->engine.listener_room = self->listeners->room;
    if (self->tie.master != NULL) {
        self->engine.poller.signs = &self->tie.master->cell->signs;
        self->engine.said = &self->tie.master->workers.board->said;
    }
    if (pws_poller_add_pipe(&self->engine.poller, self->wake_pipe[0]) < 0 ||
        (self->tie.master != NULL &&
         pws_poller_add_letters(&self->engine.poller, self->tie.master->order_fd) <
             0)) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static int
read_texts(server_object *self, PyObject *config)
{
    PyObject *seconds = PyObject_GetAttrString(config, "graceful_timeout");

    if (seconds == NULL) {
        return -1;
    }
    self->graceful_ms = (int64_t)(PyFloat_AsDouble(seconds) * 1000);
    Py_DECREF(seconds);
    self->errors = PyObject_GetAttrString(config, "errors");
    self->software = PyObject_GetAttrString(config, "server_software");
    self->script_name = PyObject_GetAttrString(config, "script_name");
    if (PyErr_Occurred()) {
        return -1;
    }
    if (!PyUnicode_Check(self->script_name) ||
        PyUnicode_KIND(self->script_name) != PyUnicode_1BYTE_KIND) {
        PyErr_SetString(PyExc_ValueError, "script_name: expected Latin-1 text");
        return -1;
    }
    return 0;
}

/* An attribute that is a callable or None: a new reference, or NULL for None. */
static int
read_hook(PyObject *config, const char *name, PyObject **hook)
{
    *hook = PyObject_GetAttrString(config, name);
    if (*hook == NULL) {
        return -1;
    }
    if (*hook == Py_None) {
        Py_CLEAR(*hook);
    }
    return 0;
}

static int
read_worker(server_object *self, PyObject *config)
{
    PyObject *several = PyObject_GetAttrString(config, "multiprocess");
    PyObject *requests = PyObject_GetAttrString(config, "max_requests");

    if (several != NULL && requests != NULL) {
        self->multiprocess = several == Py_True;
        self->tie.max_requests = PyLong_AsUnsignedLongLong(requests);
    }
    Py_XDECREF(several);
    Py_XDECREF(requests);
    if (PyErr_Occurred() ||
        read_hook(config, "before_request", &self->before_request) < 0) {
        return -1;
    }
    return read_hook(config, "after_request", &self->after_request);
}

/* `master`: the one we are a worker of, or None. `heed` gets its orders. */
static int
take_master(server_object *self, PyObject *master, PyObject *heed)
{
    if (master == Py_None) {
        return 0;
    }
    if (Py_TYPE(master) != pws_module_of((PyObject *)self)->master_type) {
        PyErr_SetString(PyExc_TypeError, "master: expected a Master or None");
        return -1;
    }
    self->tie.master = pws_master_of_worker(master);
    if (self->tie.master == NULL) {
        return -1;
    }
    Py_INCREF(master);
    self->master = master;
    Py_INCREF(heed);
    self->tie.heed = heed;
    self->settings.engine.shared_listeners = true;
    return 0;
}

static PyObject *
construct(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {(char *)"config",    (char *)"log_exception",
                            (char *)"listeners", (char *)"master",
                            (char *)"heed",      NULL};
    PyObject *config, *log_exception, *listeners = Py_None, *master = Py_None,
                                      *heed = Py_None;
    server_object *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OOO:Server", names, &config,
                                     &log_exception, &listeners, &master, &heed)) {
        return NULL;
    }
    self = (server_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->wake_pipe[0] = self->wake_pipe[1] = -1;
    Py_INCREF(log_exception);
    self->log_exception = log_exception;
    if (pws_settings_read(&self->settings, config) < 0 ||
        read_texts(self, config) < 0 || read_worker(self, config) < 0 ||
        take_master(self, master, heed) < 0 ||
        take_listeners(self, config, listeners) < 0 || open_engine(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
check_open(const server_object *self)
{
    if (!self->engine_open) {
        PyErr_SetString(PyExc_ValueError, "the server is closed");
        return -1;
    }
    return 0;
}

/* What its lanes are given, to run `app` (borrowed). */
static pws_lane_config
lane_config(server_object *self, PyObject *app)
{
    return (pws_lane_config){
        .module = pws_module_of((PyObject *)self),
        .engine = &self->engine,
        .orders = &self->orders,
        .app = app,
        .software = self->software,
        .log_exception = self->log_exception,
        .errors = self->errors,
        .script_name = self->script_name,
        .before_request = self->before_request,
        .after_request = self->after_request,
        .tie = self->master != NULL ? &self->tie : NULL,
        .multiprocess = self->multiprocess,
        .sendfile = self->settings.sendfile,
    };
}

/* Whether it can begin to serve; else an exception is set. */
static int
check_idle(const server_object *self)
{
    if (check_open(self) < 0) {
        return -1;
    }
    if (self->serving) {
        PyErr_SetString(PyExc_RuntimeError, "the server is serving already");
        return -1;
    }
    return 0;
}

static PyObject *
serve(PyObject *object, PyObject *app)
{
    server_object *self = (server_object *)object;
    pws_lane_config config = lane_config(self, app);
    pws_lane *lane;
    int rc;

    if (check_idle(self) < 0) {
        return NULL;
    }
    lane = pws_lane_new(&config, pws_inline_wait);
    if (lane == NULL) {
        return NULL;
    }
    self->serving = true;
    rc = pws_inline_serve(lane);
    self->serving = false;
    pws_lane_free(lane);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
begin(PyObject *object, PyObject *app)
{
    server_object *self = (server_object *)object;
    pws_runner *runner;

    if (check_idle(self) < 0) {
        return NULL;
    }
    if (!self->settings.engine.hosted) {
        PyErr_SetString(PyExc_ValueError, "begin(): the settings have no `hosted`");
        return NULL;
    }
    self->hosted = (pws_hosted){.config = lane_config(self, app)};
    runner = pws_inline_runner_new(&self->hosted.config);
    if (runner == NULL) {
        return NULL;
    }
    Py_INCREF(app);
    self->app = app;
    self->serving = true;
    pws_hosted_begin(&self->hosted, runner);
    Py_RETURN_NONE;
}

/* Whether it is between begin() and end(); else an exception is set. */
static int
check_begun(const server_object *self)
{
    if (self->app == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "begin() comes first");
        return -1;
    }
    return 0;
}

static PyObject *
take_step(PyObject *object, PyObject *Py_UNUSED(unused))
{
    server_object *self = (server_object *)object;
    int rc;

    if (check_begun(self) < 0) {
        return NULL;
    }
    rc = pws_hosted_step(&self->hosted);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *
is_done(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const server_object *self = (const server_object *)object;

    return PyBool_FromLong(self->app == NULL || self->hosted.done);
}

static PyObject *
end(PyObject *object, PyObject *Py_UNUSED(unused))
{
    server_object *self = (server_object *)object;

    if (self->app != NULL && self->hosted.stepping) {
        PyErr_SetString(PyExc_RuntimeError, "end() in a step(): stop() first");
        return NULL;
    }
    end_hosted(self);
    Py_RETURN_NONE;
}

static PyObject *
get_fileno(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const server_object *self = (const server_object *)object;

    return check_open(self) < 0 ? NULL : PyLong_FromLong(self->engine.poller.fd);
}

static PyObject *
stop(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {(char *)"graceful", (char *)"delay", NULL};
    server_object *self = (server_object *)object;
    pws_orders *orders = &self->orders;
    int graceful = 1, wanted;
    double delay = 0;
    int64_t now_ms = pws_clock_now_ms(), delay_ms, drain_ms;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|pd:stop", names, &graceful,
                                     &delay)) {
        return NULL;
    }
    if (!(delay >= 0 && delay <= 1e9)) {
        PyErr_SetString(PyExc_ValueError, "delay: out of range");
        return NULL;
    }
    wanted = graceful ? PWS_STOP_GRACEFUL : PWS_STOP_QUICK;
    delay_ms = (int64_t)(delay * 1000);
    drain_ms = delay_ms > 0 ? now_ms + delay_ms : 0;
    if (atomic_load(&orders->stop) < wanted ||
        drain_ms < atomic_load(&orders->drain_ms)) {
        atomic_store(&orders->drain_ms, drain_ms);
        atomic_store(&orders->end_ms, now_ms + delay_ms + self->graceful_ms);
        if (atomic_load(&orders->stop) < wanted) {
            atomic_store(&orders->stop, wanted);
        }
    }
    if (self->engine_open) {
        pws_engine_announce_drain(&self->engine);
        pws_engine_wake(&self->engine);
    }
    Py_RETURN_NONE;
}

static PyObject *
say_close(PyObject *object, PyObject *Py_UNUSED(unused))
{
    server_object *self = (server_object *)object;

    if (self->engine_open) {
        pws_engine_announce_drain(&self->engine);
    }
    Py_RETURN_NONE;
}

static PyObject *
reopen_access_log(PyObject *object, PyObject *fd)
{
    server_object *self = (server_object *)object;
    int number = PyObject_AsFileDescriptor(fd);

    if (number < 0) {
        return NULL;
    }
    if (self->engine_open && self->settings.engine.access_log != NULL &&
        pws_access_log_reopen(self->settings.engine.access_log, number) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *
abandon(PyObject *object, PyObject *Py_UNUSED(unused))
{
    server_object *self = (server_object *)object;

    if (self->engine_open) {
        pws_engine_abandon(&self->engine);
        close_pipe(self);
    }
    Py_RETURN_NONE;
}

static PyObject *
pause_relief(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_relief_pause(&((server_object *)object)->engine.relief);
    Py_RETURN_NONE;
}

static PyObject *
resume_relief(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_relief_go_on(&((server_object *)object)->engine.relief);
    Py_RETURN_NONE;
}

static PyObject *
close_server(PyObject *object, PyObject *Py_UNUSED(unused))
{
    server_object *self = (server_object *)object;

    if (self->serving) {
        PyErr_SetString(PyExc_RuntimeError, "close() while it serves: stop() first");
        return NULL;
    }
    close_all(self);
    Py_RETURN_NONE;
}

static PyObject *
addresses(PyObject *object, void *Py_UNUSED(unused))
{
    return PyObject_GetAttrString((PyObject *)((server_object *)object)->listeners,
                                  "addresses");
}

static PyObject *
protocols(PyObject *object, void *Py_UNUSED(unused))
{
    return PyObject_GetAttrString((PyObject *)((server_object *)object)->listeners,
                                  "protocols");
}

static PyObject *
wakeup_fd(PyObject *object, void *Py_UNUSED(unused))
{
    return PyLong_FromLong(((server_object *)object)->wake_pipe[1]);
}

static int
traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((server_object *)object)->log_exception);
    Py_VISIT(((server_object *)object)->master);
    Py_VISIT(((server_object *)object)->tie.heed);
    Py_VISIT(((server_object *)object)->before_request);
    Py_VISIT(((server_object *)object)->after_request);
    Py_VISIT(((server_object *)object)->errors);
    Py_VISIT(((server_object *)object)->app);
    return 0;
}

static int
clear(PyObject *object)
{
    server_object *self = (server_object *)object;

    Py_CLEAR(self->log_exception);
    Py_CLEAR(self->tie.heed);
    Py_CLEAR(self->before_request);
    Py_CLEAR(self->after_request);
    Py_CLEAR(self->errors);
    return 0;
}

static void
deallocate(PyObject *object)
{
    server_object *self = (server_object *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    close_all(self);
    (void)clear(object);
    Py_CLEAR(self->listeners);
    Py_CLEAR(self->master);
    Py_CLEAR(self->software);
    Py_CLEAR(self->script_name);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *
requests(PyObject *object, void *Py_UNUSED(unused))
{
    const server_object *self = (const server_object *)object;

    return PyLong_FromUnsignedLongLong(self->engine_open ? self->engine.requests : 0);
}

static PyMethodDef methods[] = {
    {"serve", serve, METH_O,
     "serve(app): run the app for each request in this thread, until stop()."},
    {"fileno", get_fileno, METH_NOARGS,
     "fileno(): for another loop, to be watched for reading: when to call step()."},
    {"begin", begin, METH_O,
     "begin(app): serve in another loop of this thread, from now until end()."},
    {"step", take_step, METH_NOARGS,
     "step(): move connections on and run the app for requests that are complete, for "
     "about a millisecond. Returns whether there is more to do, which fileno() shows "
     "too."},
    {"is_done", is_done, METH_NOARGS,
     "is_done(): whether it has stopped, and no step is to come."},
    {"end", end, METH_NOARGS, "end(): the counterpart of begin(). Idempotent."},
    {"stop", (PyCFunction)(void (*)(void))stop, METH_VARARGS | METH_KEYWORDS,
     "stop(graceful=True, delay=0): end serve(), gracefully after `delay` seconds in "
     "which connections are accepted still; a shorter one may follow. From signal "
     "handlers and any thread."},
    {"say_close", say_close, METH_NOARGS,
     "say_close(): from now on each answer ends its connection."},
    {"reopen_access_log", reopen_access_log, METH_O,
     "reopen_access_log(file): go on with a duplicate of this file's descriptor."},
    {"abandon", abandon, METH_NOARGS,
     "abandon(): in a forked child, let go of the parent's sockets."},
    {"pause_relief", pause_relief, METH_NOARGS,
     "pause_relief(): before a fork, let no other thread be at work here."},
    {"resume_relief", resume_relief, METH_NOARGS,
     "resume_relief(): after it, in the parent, once for each pause."},
    {"close", close_server, METH_NOARGS, "close(): close all sockets. Idempotent."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"addresses", addresses, NULL, "Where the server listens, as text.", NULL},
    {"requests", requests, NULL, "How many have come whole.", NULL},
    {"protocols", protocols, NULL, "What is spoken there: http or uwsgi.", NULL},
    {"wakeup_fd", wakeup_fd, NULL, "For signal.set_wakeup_fd().", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, construct},
    {Py_tp_dealloc, deallocate},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_tp_doc, (char *)"Server(config, log_exception, listeners=None, master=None, "
                        "heed=None): an engine "
                        "and its sockets; with `master` in a worker of it, whose "
                        "orders go to heed()."},
    {0, NULL},
};

PyType_Spec pws_server_spec = {
    .name = "pywsgiserve._core.Server",
    .basicsize = sizeof(server_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};
