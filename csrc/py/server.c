#include "py/server.h"

#include <fcntl.h>
#include <unistd.h>

#include "py/inline.h"
#include "py/settings.h"

typedef struct {
    PyObject_HEAD
    pws_settings settings;
    pws_engine engine;
    bool engine_open;
    bool serving;
    pws_listener *listeners;
    unsigned listener_count;
    int wake_pipe[2]; /* read end, write end; -1: none */
    pws_orders orders;
    int64_t graceful_ms;
    PyObject *log_exception;
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
drop_all_released(server_object *self)
{
    pws_segment *segment = pws_engine_released(&self->engine);

    while (segment != NULL) {
        pws_segment *next = segment->next;

        Py_DECREF((PyObject *)segment->object);
        free(segment);
        segment = next;
    }
}

static void
close_all(server_object *self)
{
    if (self->engine_open) {
        self->engine_open = false;
        pws_engine_close(&self->engine);
        drop_all_released(self);
    }
    for (unsigned i = 0; i < self->listener_count; i++) {
        pws_listener_close(&self->listeners[i]);
    }
    PyMem_Free(self->listeners);
    self->listeners = NULL;
    self->listener_count = 0;
    close_pipe(self);
    pws_settings_clear(&self->settings);
}

static int
open_listener(server_object *self, PyObject *bind, int backlog)
{
    pws_listener *listener = &self->listeners[self->listener_count];
    const char *text = PyUnicode_AsUTF8(bind);
    pws_address address;
    char why[256];
    int rc;

    if (text == NULL) {
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = pws_address_parse(&address, text, why, sizeof(why));
    if (rc == 0) {
        rc = pws_listener_open(listener, &address, backlog, why, sizeof(why));
    }
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        PyErr_Format(PyExc_ValueError, "bind: '%s': %s", text, why);
        return -1;
    }
    listener->index = self->listener_count++;
    return 0;
}

static int
open_listeners(server_object *self, PyObject *config)
{
    PyObject *binds = PyObject_GetAttrString(config, "bind"), *backlog = NULL,
             *items = NULL;
    int rc = -1, n;

    backlog = PyObject_GetAttrString(config, "backlog");
    if (binds == NULL || backlog == NULL) {
        goto done;
    }
    n = (int)PyLong_AsLong(backlog);
    items = PySequence_Tuple(binds);
    if ((n == -1 && PyErr_Occurred()) || items == NULL) {
        goto done;
    }
    self->listeners =
        PyMem_Calloc((size_t)PyTuple_GET_SIZE(items) + 1, sizeof(*self->listeners));
    if (self->listeners == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++) {
        if (open_listener(self, PyTuple_GET_ITEM(items, i), n) < 0) {
            goto done;
        }
    }
    rc = 0;
done:
    Py_XDECREF(binds);
    Py_XDECREF(backlog);
    Py_XDECREF(items);
    return rc;
}

static int
open_engine(server_object *self)
{
    if (pipe2(self->wake_pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
        self->wake_pipe[0] = self->wake_pipe[1] = -1;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (pws_engine_init(&self->engine, &self->settings.engine, self->listeners,
                        self->listener_count) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->engine_open = true;
    if (pws_poller_add_pipe(&self->engine.poller, self->wake_pipe[0]) < 0) {
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

static PyObject *
construct(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {(char *)"config", (char *)"log_exception", NULL};
    PyObject *config, *log_exception;
    server_object *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Server", names, &config,
                                     &log_exception)) {
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
        read_texts(self, config) < 0 || open_listeners(self, config) < 0 ||
        open_engine(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* sys.stderr, or None where there is none. A new reference. */
static PyObject *
error_stream(void)
{
    PyObject *stream = PySys_GetObject("stderr"); /* borrowed */

    if (stream == NULL) {
        stream = Py_None;
    }
    Py_INCREF(stream);
    return stream;
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

static PyObject *
serve(PyObject *object, PyObject *app)
{
    server_object *self = (server_object *)object;
    PyObject *errors;
    pws_lane_config config = {
        .module = pws_module_of(object),
        .engine = &self->engine,
        .orders = &self->orders,
        .app = app,
        .software = self->software,
        .log_exception = self->log_exception,
        .script_name = self->script_name,
        .sendfile = self->settings.sendfile,
    };
    pws_lane *lane;
    int rc;

    if (check_open(self) < 0) {
        return NULL;
    }
    if (self->serving) {
        PyErr_SetString(PyExc_RuntimeError, "the server is serving already");
        return NULL;
    }
    errors = error_stream();
    config.errors = errors;
    lane = pws_lane_new(&config, pws_inline_wait);
    if (lane == NULL) {
        Py_DECREF(errors);
        return NULL;
    }
    self->serving = true;
    rc = pws_inline_serve(lane);
    self->serving = false;
    pws_lane_free(lane);
    Py_DECREF(errors);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stop(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {(char *)"graceful", NULL};
    server_object *self = (server_object *)object;
    pws_orders *orders = &self->orders;
    int graceful = 1, wanted;
    pws_clock now;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:stop", names, &graceful)) {
        return NULL;
    }
    wanted = graceful ? PWS_STOP_GRACEFUL : PWS_STOP_QUICK;
    if (atomic_load(&orders->stop) < wanted) {
        pws_clock_read(&now);
        atomic_store(&orders->end_ms, now.now_ms + self->graceful_ms);
        atomic_store(&orders->stop, wanted);
    }
    if (self->engine_open) {
        pws_engine_announce_drain(&self->engine);
        pws_engine_wake(&self->engine);
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
    if (self->engine_open && self->settings.engine.access_log != NULL) {
        pws_access_log_reopen(self->settings.engine.access_log, number);
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
close_server(PyObject *object, PyObject *Py_UNUSED(unused))
{
    server_object *self = (server_object *)object;

    if (self->serving) {
        PyErr_SetString(PyExc_RuntimeError, "close() while serve() runs: stop() first");
        return NULL;
    }
    close_all(self);
    Py_RETURN_NONE;
}

static PyObject *
addresses(PyObject *object, void *Py_UNUSED(unused))
{
    server_object *self = (server_object *)object;
    PyObject *list = PyList_New(0);

    for (unsigned i = 0; list != NULL && i < self->listener_count; i++) {
        char room[PWS_ADDRESS_ROOM];
        PyObject *text = PyUnicode_DecodeFSDefault(
            pws_address_format(&self->listeners[i].address, room, sizeof(room)));

        if (text == NULL || PyList_Append(list, text) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(text);
    }
    return list;
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
    return 0;
}

static int
clear(PyObject *object)
{
    Py_CLEAR(((server_object *)object)->log_exception);
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
    Py_CLEAR(self->software);
    Py_CLEAR(self->script_name);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"serve", serve, METH_O,
     "serve(app): run the app for each request in this thread, until stop()."},
    {"stop", (PyCFunction)(void (*)(void))stop, METH_VARARGS | METH_KEYWORDS,
     "stop(graceful=True): end serve(). From signal handlers and any thread."},
    {"reopen_access_log", reopen_access_log, METH_O,
     "reopen_access_log(file): write what waits, then go on with this file."},
    {"abandon", abandon, METH_NOARGS,
     "abandon(): in a forked child, let go of the parent's sockets."},
    {"close", close_server, METH_NOARGS, "close(): close all sockets. Idempotent."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"addresses", addresses, NULL, "Where the server listens, as text.", NULL},
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
    {Py_tp_doc,
     (char
          *)"Server(config, log_exception): bound sockets and the engine behind them."},
    {0, NULL},
};

PyType_Spec pws_server_spec = {
    .name = "pywsgiserve._core.Server",
    .basicsize = sizeof(server_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};
