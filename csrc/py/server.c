#include "py/server.h"

#include <unistd.h>

#include "base/clock.h"
#include "engine/accept.h"
#include "py/body_bytes.h"
#include "py/greenlets.h"
#include "py/inline.h"
#include "py/server_threads.h"
#include "py/turn.h"

static void
close_pipe(pws_server *self)
{
    for (int i = 0; i < 2; i++) {
        if (self->wake_pipe[i] >= 0) {
            close(self->wake_pipe[i]);
            self->wake_pipe[i] = -1;
        }
    }
}

static void
end_hosted(pws_server *self)
{
    if (self->app == NULL) {
        return;
    }
    if (self->threads != NULL) {
        pws_server_end_threads(self);
    }
    else {
        pws_hosted_end(&self->hosted);
        if (self->hosted.left_behind) {
            Py_INCREF(self); /* for ever: who was left behind may come back */
        }
    }
    self->serving = false;
    Py_CLEAR(self->app);
}

static void
close_all(pws_server *self)
{
    end_hosted(self);
    if (self->engine_open && self->hosted.left_behind) {
        self->engine_open = false;
        pws_engine_abandon(&self->engine);
        return;
    }
    pws_server_end_threads(self);
    if (self->left_behind) {
        return;
    }
    if (self->engine_open) {
        self->engine_open = false;
        pws_engine_close(&self->engine);
        pws_lane_drop_released(&self->engine);
        pws_body_bytes_drop(&self->engine.bodies.blocks);
    }
    if (self->listeners != NULL && self->owns_listeners) {
        for (unsigned i = 0; i < self->listeners->count; i++) {
            pws_listener_close(&self->listeners->items[i]);
        }
    }
    close_pipe(self);
    pws_settings_clear(&self->settings);
}

static int
check_open(const pws_server *self)
{
    if (!self->engine_open) {
        PyErr_SetString(PyExc_ValueError, "the server is closed");
        return -1;
    }
    return 0;
}

/* What its lanes are given, to run `app` (borrowed). */
static pws_lane_config
lane_config(pws_server *self, PyObject *app)
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
        .memos = &self->memos,
        .tie = self->master != NULL ? &self->tie : NULL,
        .multiprocess = self->multiprocess,
        .sendfile = self->settings.sendfile,
    };
}

/* Whether it can begin to serve; else an exception is set. */
static int
check_idle(const pws_server *self)
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
prepare(PyObject *object, PyObject *app)
{
    pws_server *self = (pws_server *)object;
    pws_lane_config config = lane_config(self, app);

    if (check_idle(self) < 0) {
        return NULL;
    }
    if (pws_server_wants_threads(self) && pws_server_make_threads(self, &config) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
serve(PyObject *object, PyObject *app)
{
    pws_server *self = (pws_server *)object;
    pws_lane_config config = lane_config(self, app);
    pws_lane *lane;
    int rc;

    if (check_idle(self) < 0) {
        return NULL;
    }
    if (pws_server_wants_threads(self)) {
        if (pws_server_serve_threads(self, &config) < 0) {
            return NULL;
        }
        Py_RETURN_NONE;
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
begin(PyObject *object, PyObject *args)
{
    pws_server *self = (pws_server *)object;
    PyObject *app, *host = NULL;
    pws_lane_config config;
    pws_runner *runner;

    if (!PyArg_ParseTuple(args, "O|O:begin", &app, &host) || check_idle(self) < 0) {
        return NULL;
    }
    config = lane_config(self, app);
    if (app != Py_None && host == NULL && pws_server_wants_threads(self)) {
        return pws_server_begin_threads(self, &config) < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (!self->settings.engine.hosted) {
        PyErr_SetString(PyExc_ValueError, "begin(): the settings have no `hosted`");
        return NULL;
    }
    if (app == Py_None) {
        pws_accept_leave(&self->engine);
    }
    self->hosted = (pws_hosted){.config = config};
    self->in_greenlets = self->hosted.config.multithread = host != NULL;
    runner = host != NULL ? pws_greenlets_runner_new(&self->hosted, host)
                          : pws_inline_runner_new(&self->hosted.config);
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
check_begun(const pws_server *self)
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
    pws_server *self = (pws_server *)object;
    pws_warden *warden;
    int rc;

    if (check_begun(self) < 0) {
        return NULL;
    }
    warden = pws_server_warden(self);
    rc = warden != NULL ? pws_warden_step(warden) : pws_hosted_step(&self->hosted);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *
call_off(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_server *self = (const pws_server *)object;

    if (check_begun(self) < 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLong(
        self->in_greenlets ? pws_greenlets_call_off(self->hosted.runner) : 0);
}

static PyObject *
is_done(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_server *self = (const pws_server *)object;
    const pws_warden *warden = pws_server_warden(self);
    bool done = warden != NULL ? warden->stage == PWS_WARDEN_DONE : self->hosted.done;

    return PyBool_FromLong(self->app == NULL || done);
}

static PyObject *
end(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_server *self = (pws_server *)object;
    const pws_warden *warden = pws_server_warden(self);

    if (self->app != NULL &&
        (warden != NULL ? warden->stepping : self->hosted.stepping)) {
        PyErr_SetString(PyExc_RuntimeError, "end() in a step(): stop() first");
        return NULL;
    }
    end_hosted(self);
    Py_RETURN_NONE;
}

static PyObject *
says_close(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_server *self = (pws_server *)object;

    return PyBool_FromLong(self->engine_open && atomic_load(&self->engine.draining));
}

static PyObject *
is_draining(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_server *self = (const pws_server *)object;

    return PyBool_FromLong(!self->engine_open || self->engine.drained);
}

static PyObject *
count_request(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_server *self = (pws_server *)object;

    if (check_begun(self) < 0) {
        return NULL;
    }
    self->engine.requests++;
    pws_turn_count(&self->hosted.config);
    Py_RETURN_NONE;
}

static PyObject *
log_access(PyObject *object, PyObject *text)
{
    pws_server *self = (pws_server *)object;
    pws_access_log *log = self->settings.engine.access_log;
    char *at;
    Py_ssize_t len;

    if (PyBytes_AsStringAndSize(text, &at, &len) < 0 || check_begun(self) < 0) {
        return NULL;
    }
    if (log != NULL) {
        pws_turn_take_lease(&self->engine);
        pws_access_log_add_text(log, (pws_slice){at, (size_t)len}, pws_clock_now_ms());
        (void)pws_engine_show(&self->engine, true, -1); /* it does not wait for long */
        pws_lease_drop(&self->engine.lease);
    }
    Py_RETURN_NONE;
}

static PyObject *
get_fileno(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const pws_server *self = (const pws_server *)object;
    const pws_warden *warden = pws_server_warden(self);
    int fd = warden != NULL ? warden->bell.fd : self->engine.poller.fd;

    return check_open(self) < 0 ? NULL : PyLong_FromLong(fd);
}

static PyObject *
stop(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {(char *)"graceful", (char *)"delay", NULL};
    pws_server *self = (pws_server *)object;
    pws_warden *warden = pws_server_warden(self);
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
    if (warden != NULL) {
        pws_warden_call(warden);
    }
    Py_RETURN_NONE;
}

static PyObject *
say_close(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_server *self = (pws_server *)object;

    if (self->engine_open) {
        pws_engine_announce_drain(&self->engine);
    }
    Py_RETURN_NONE;
}

static PyObject *
reopen_access_log(PyObject *object, PyObject *fd)
{
    pws_server *self = (pws_server *)object;
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
    pws_server *self = (pws_server *)object;

    if (self->engine_open) {
        if (self->app != NULL) {
            pws_hosted_abandon(&self->hosted);
        }
        pws_engine_abandon(&self->engine);
        if (self->threads != NULL) {
            pws_warden_close(pws_threads_warden(self->threads));
        }
        close_pipe(self);
    }
    Py_RETURN_NONE;
}

static PyObject *
pause_relief(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_relief_pause(&((pws_server *)object)->engine.relief);
    Py_RETURN_NONE;
}

static PyObject *
resume_relief(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_relief_go_on(&((pws_server *)object)->engine.relief);
    Py_RETURN_NONE;
}

static PyObject *
close_server(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_server *self = (pws_server *)object;

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
    return PyObject_GetAttrString((PyObject *)((pws_server *)object)->listeners,
                                  "addresses");
}

static PyObject *
protocols(PyObject *object, void *Py_UNUSED(unused))
{
    return PyObject_GetAttrString((PyObject *)((pws_server *)object)->listeners,
                                  "protocols");
}

static PyObject *
wakeup_fd(PyObject *object, void *Py_UNUSED(unused))
{
    return PyLong_FromLong(((pws_server *)object)->wake_pipe[1]);
}

static int
traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((pws_server *)object)->log_exception);
    Py_VISIT(((pws_server *)object)->master);
    Py_VISIT(((pws_server *)object)->tie.heed);
    Py_VISIT(((pws_server *)object)->before_request);
    Py_VISIT(((pws_server *)object)->after_request);
    Py_VISIT(((pws_server *)object)->errors);
    Py_VISIT(((pws_server *)object)->app);
    return 0;
}

static int
clear(PyObject *object)
{
    pws_server *self = (pws_server *)object;

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
    pws_server *self = (pws_server *)object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    close_all(self);
    pws_environ_memos_clear(&self->memos);
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
    const pws_server *self = (const pws_server *)object;

    return PyLong_FromUnsignedLongLong(self->engine_open ? self->engine.requests : 0);
}

static PyObject *
left_behind(PyObject *object, void *Py_UNUSED(unused))
{
    const pws_server *self = (const pws_server *)object;

    return PyBool_FromLong(self->left_behind || self->hosted.left_behind);
}

static PyMethodDef methods[] = {
    {"prepare", prepare, METH_O,
     "prepare(app): make the threads that serve(app) will use, if it uses any."},
    {"interrupt", pws_server_interrupt, METH_O,
     "interrupt(exception): raise it in the threads that run the requests which the "
     "master wants to be interrupted; or any. Returns in how many."},
    {"serve", serve, METH_O,
     "serve(app): run the app for each request in this thread, until stop()."},
    {"fileno", get_fileno, METH_NOARGS,
     "fileno(): for another loop, to be watched for reading: when to call step()."},
    {"begin", begin, METH_VARARGS,
     "begin(app, host): serve in another loop of this thread, from now until end(), or "
     "in threads beside it, where the settings have several; with a host "
     "(csrc/py/greenlets.h) each request in a greenlet. With None for an "
     "app connections are somebody else's, who has descriptors of his own: orders and "
     "signs of life are all that is left to do."},
    {"says_close", says_close, METH_NOARGS,
     "says_close(): whether each answer is to end its connection."},
    {"is_draining", is_draining, METH_NOARGS,
     "is_draining(): whether a stop has begun, and nobody is to accept any more."},
    {"count_request", count_request, METH_NOARGS,
     "count_request(): somebody else has answered one."},
    {"log_access", log_access, METH_O,
     "log_access(line): somebody else's line for the access log."},
    {"step", take_step, METH_NOARGS,
     "step(): move connections on and run the app for requests that are complete, for "
     "about a millisecond. Returns whether there is more to do, which fileno() shows "
     "too."},
    {"call_off", call_off, METH_NOARGS,
     "call_off(): ask the greenlets of all requests to end, those that were not asked "
     "before. Returns how many have not ended."},
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
    {"left_behind", left_behind, NULL,
     "Whether the app did not end in some threads or greenlets, which may go on.",
     NULL},
    {"protocols", protocols, NULL, "What is spoken there: http or uwsgi.", NULL},
    {"wakeup_fd", wakeup_fd, NULL, "For signal.set_wakeup_fd().", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, pws_server_new},
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
    .basicsize = sizeof(pws_server),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};
