#include "py/server.h"

#include <fcntl.h>
#include <unistd.h>

#include "py/master.h"

/* Those that somebody else has opened, or our own. */
static int
take_listeners(pws_server *self, PyObject *config, PyObject *listeners)
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
open_engine(pws_server *self)
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
        self->engine.poller.owing = &self->tie.master->cell->owing;
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
read_texts(pws_server *self, PyObject *config)
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
read_worker(pws_server *self, PyObject *config)
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
take_master(pws_server *self, PyObject *master, PyObject *heed)
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
    self->settings.engine.rivals = &self->tie.master->workers.board->wanted;
    return 0;
}

PyObject *
pws_server_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {(char *)"config",    (char *)"log_exception",
                            (char *)"listeners", (char *)"master",
                            (char *)"heed",      NULL};
    PyObject *config, *log_exception, *listeners = Py_None, *master = Py_None,
                                      *heed = Py_None;
    pws_server *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OOO:Server", names, &config,
                                     &log_exception, &listeners, &master, &heed)) {
        return NULL;
    }
    self = (pws_server *)type->tp_alloc(type, 0);
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
