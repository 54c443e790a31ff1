#include "py/client_socket.h"

#include <fcntl.h>
#include <unistd.h>

#include "py/unlocked.h"

static const char ENDED[] = "gunicorn.socket used after its request has ended";

typedef struct {
    PyObject_HEAD
    pws_lane_link lane;
    PyObject *socket; /* NULL until it was asked for */
} client_socket;

/* socket.socket as it is now: gevent and eventlet put classes of their own there, which
 * wait in the ways of their hubs. A new reference, or NULL with an exception set. */
static PyObject *
socket_type(pws_module *module)
{
    return PyObject_GetAttr(module->socket_module, PWS_NAME(module, socket));
}

/* type(fileno=fd), of the family that the descriptor has: eventlet's default is another
 * one. Takes the descriptor, and `type`, which may be NULL. A new reference. */
static PyObject *
make_socket(PyObject *type, int fd)
{
    PyObject *empty = PyTuple_New(0);
    PyObject *kwargs = Py_BuildValue("{s:i,s:i}", "family", -1, "fileno", fd);
    PyObject *socket = NULL;

    if (type != NULL && empty != NULL && kwargs != NULL) {
        socket = PyObject_Call(type, empty, kwargs);
    }
    Py_XDECREF(type);
    Py_XDECREF(empty);
    Py_XDECREF(kwargs);
    if (socket == NULL) {
        close(fd);
    }
    return socket;
}

/* The socket, if it was asked for. A new reference, or NULL. */
static PyObject *
made_before(client_socket *self)
{
    PyObject *socket;

    Py_BEGIN_CRITICAL_SECTION(self);
    socket = Py_XNewRef(self->socket);
    Py_END_CRITICAL_SECTION();
    return socket;
}

/* Keep a socket, or NULL. Returns the last one, which is the caller's then, or NULL. */
static PyObject *
swap(client_socket *self, PyObject *socket)
{
    PyObject *last;

    Py_BEGIN_CRITICAL_SECTION(self);
    last = self->socket;
    self->socket = socket;
    Py_END_CRITICAL_SECTION();
    return last;
}

/* Take the connection out of the engine. Returns the socket, a new reference, or NULL
 * with an exception set. */
static PyObject *
materialise(client_socket *self)
{
    PyObject *socket = made_before(self);
    pws_lane *lane;
    int fd;

    if (socket != NULL) {
        return socket;
    }
    lane = pws_lane_enter((PyObject *)self, &self->lane, PyExc_OSError, ENDED);
    if (lane == NULL) {
        return NULL;
    }
    pws_hold_reclaim(&lane->engine->hold); /* lent while the app goes on */
    fd = pws_exchange_detach(lane->x);
    pws_lane_leave(lane);
    if (fd < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    socket = make_socket(socket_type(pws_module_of((PyObject *)self)), fd);
    if (socket != NULL) {
        Py_XDECREF(swap(self, Py_NewRef(socket)));
    }
    return socket;
}

static bool
is_one_of(PyObject *name, const char *const *names)
{
    while (*names != NULL && PyUnicode_CompareWithASCIIString(name, *names) != 0) {
        names++;
    }
    return *names != NULL;
}

/* Names that tell of the connection without using it. */
static bool
is_question(PyObject *name)
{
    static const char *const names[] = {"getpeername", "getsockname", "getsockopt",
                                        "family",      "type",        "proto",
                                        "gettimeout",  "timeout",     NULL};

    return is_one_of(name, names);
}

/* Those of them that Python's class has as an enumeration. */
static bool
is_enumeration(PyObject *name)
{
    static const char *const names[] = {"family", "type", NULL};

    return is_one_of(name, names);
}

/* A socket of its own over the connection, for the question of that name. Its methods
 * keep the plain one alive, which those of eventlet's do not. A new reference. */
static PyObject *
ask_socket(client_socket *self, PyObject *name)
{
    pws_module *module = pws_module_of((PyObject *)self);
    pws_lane *lane;
    PyObject *type;
    int fd;

    Py_BEGIN_CRITICAL_SECTION(self); /* the request stays as long as the link */
    lane = pws_lane_linked(&self->lane);
    fd = lane != NULL ? fcntl(lane->x->conn->fd, F_DUPFD_CLOEXEC, 3) : -1;
    Py_END_CRITICAL_SECTION();
    if (lane == NULL) {
        PyErr_SetString(PyExc_OSError, ENDED);
        return NULL;
    }
    if (fd < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    type = is_enumeration(name) ? socket_type(module) : Py_NewRef(module->plain_socket);
    return make_socket(type, fd);
}

/* Whether a socket has an attribute of that name: some of eventlet's class are made
 * with the object, of those that the plain one has. Returns 0, or -1 with an exception.
 */
static int
check_name(pws_module *module, PyObject *name)
{
    PyObject *type = socket_type(module), *found;

    found = type != NULL ? PyObject_GetAttr(type, name) : NULL;
    Py_XDECREF(type);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        found = PyObject_GetAttr(module->plain_socket, name);
    }
    Py_XDECREF(found);
    return found != NULL ? 0 : -1;
}

static PyObject *
get_attribute(PyObject *self, PyObject *name)
{
    client_socket *shell = (client_socket *)self;
    pws_module *module = pws_module_of(self);
    PyObject *found, *socket;

    if (PyUnicode_CompareWithASCIIString(name, "__class__") == 0) {
        return socket_type(module); /* for isinstance() */
    }
    found = PyObject_GenericGetAttr(self, name);
    if (found != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return found;
    }
    PyErr_Clear();
    /* What no socket has is no use of this one. */
    if (check_name(module, name) < 0) {
        return NULL;
    }
    socket = made_before(shell);
    if (socket == NULL) {
        socket = is_question(name) ? ask_socket(shell, name) : materialise(shell);
    }
    found = socket != NULL ? PyObject_GetAttr(socket, name) : NULL;
    Py_XDECREF(socket);
    return found;
}

PyObject *
pws_client_socket_new(pws_module *module)
{
    client_socket *self = PyObject_GC_New(client_socket, module->client_socket_type);

    if (self == NULL) {
        return NULL;
    }
    atomic_init(&self->lane, NULL);
    self->socket = NULL;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

void
pws_client_socket_attach(PyObject *self, pws_lane *lane)
{
    pws_lane_link_to(self, &((client_socket *)self)->lane, lane);
}

int
pws_client_socket_close(PyObject *self)
{
    PyObject *socket = swap((client_socket *)self, NULL), *result;

    if (socket == NULL) {
        return 0;
    }
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
