#include "py/client_socket.h"

#include <unistd.h>

typedef struct {
    PyObject_HEAD
    pws_lane *lane;   /* NULL: the request has ended */
    PyObject *socket; /* NULL until it was asked for */
} client_socket;

/* Take the connection out of the engine. Returns the socket, borrowed, or NULL with an
 * exception set. */
static PyObject *
materialise(client_socket *self)
{
    PyObject *empty, *kwargs = NULL;
    int fd;

    if (self->socket != NULL) {
        return self->socket;
    }
    if (self->lane == NULL) {
        PyErr_SetString(PyExc_OSError,
                        "gunicorn.socket used after its request has ended");
        return NULL;
    }
    fd = pws_exchange_detach(self->lane->x);
    if (fd < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    empty = PyTuple_New(0);
    kwargs = Py_BuildValue("{s:i}", "fileno", fd);
    if (empty != NULL && kwargs != NULL) {
        self->socket = PyObject_Call(self->lane->module->socket_type, empty, kwargs);
    }
    Py_XDECREF(empty);
    Py_XDECREF(kwargs);
    if (self->socket == NULL) {
        close(fd);
    }
    return self->socket;
}

static PyObject *
get_attribute(PyObject *self, PyObject *name)
{
    PyObject *found, *socket;

    if (PyUnicode_CompareWithASCIIString(name, "__class__") == 0) {
        found = pws_module_of(self)->socket_type; /* for isinstance() */
        Py_INCREF(found);
        return found;
    }
    found = PyObject_GenericGetAttr(self, name);
    if (found != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return found;
    }
    PyErr_Clear();
    socket = materialise((client_socket *)self);
    return socket != NULL ? PyObject_GetAttr(socket, name) : NULL;
}

PyObject *
pws_client_socket_new(pws_module *module)
{
    client_socket *self = PyObject_GC_New(client_socket, module->client_socket_type);

    if (self == NULL) {
        return NULL;
    }
    self->lane = NULL;
    self->socket = NULL;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

int
pws_client_socket_attach(PyObject *self, pws_lane *lane)
{
    client_socket *shell = (client_socket *)self;
    PyObject *socket = shell->socket, *result;

    shell->lane = lane;
    if (lane != NULL || socket == NULL) {
        return 0;
    }
    shell->socket = NULL; /* taken */
    result = PyObject_CallMethodNoArgs(socket, PWS_NAME(pws_module_of(self), close));
    Py_DECREF(socket);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((client_socket *)self)->socket);
    return 0;
}

static int
clear(PyObject *self)
{
    Py_CLEAR(((client_socket *)self)->socket);
    return 0;
}

static void
deallocate(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    (void)clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot slots[] = {
    {Py_tp_dealloc, deallocate},
    {Py_tp_getattro, get_attribute},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_doc, (char *)"The client's socket, made when an attribute is asked for."},
    {0, NULL},
};

PyType_Spec pws_client_socket_spec = {
    .name = "pywsgiserve._core.ClientSocket",
    .basicsize = sizeof(client_socket),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
