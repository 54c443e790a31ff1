#include "py/callable.h"

#include <structmember.h>

#include "py/response.h"
#include "py/unlocked.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    const char *name;
    pws_lane_link lane;
} request_callable;

static pws_lane *
lane_of(PyObject *self)
{
    request_callable *callable = (request_callable *)self;
    pws_lane *lane = pws_lane_linked(&callable->lane);

    if (lane == NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s() called after its request has ended",
                     callable->name);
    }
    return lane;
}

static int
check_count(PyObject *self, size_t nargsf, PyObject *kwnames, Py_ssize_t least,
            Py_ssize_t most)
{
    Py_ssize_t n = PyVectorcall_NARGS(nargsf);

    if (n < least || n > most || (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0)) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd to %zd positional arguments",
                     ((request_callable *)self)->name, least, most);
        return -1;
    }
    return 0;
}

/* exc_info of start_response: an error came up while the response was made (PEP 3333).
 * Once the head is out there is no way back but the exception. */
static int
handle_exc_info(PyObject *exc_info, bool begun)
{
    PyObject *value;

    if (!PyTuple_Check(exc_info) || PyTuple_GET_SIZE(exc_info) != 3) {
        PyErr_SetString(PyExc_TypeError, "start_response: exc_info is not a triple");
        return -1;
    }
    if (!begun) {
        return 0;
    }
    value = PyTuple_GET_ITEM(exc_info, 1);
    if (!PyExceptionInstance_Check(value)) {
        PyErr_SetString(PyExc_TypeError,
                        "start_response: exc_info[1] is not an exception");
        return -1;
    }
    if (PyException_SetTraceback(value, PyTuple_GET_ITEM(exc_info, 2)) < 0) {
        PyErr_Clear();
    }
    PyErr_SetObject((PyObject *)Py_TYPE(value), value);
    return -1;
}

static int
check_start(PyObject *const *args)
{
    if (!PyUnicode_Check(args[0])) {
        PyErr_Format(PyExc_TypeError, "start_response: status is %s, not str",
                     Py_TYPE(args[0])->tp_name);
        return -1;
    }
    if (!PyList_Check(args[1])) {
        PyErr_Format(PyExc_TypeError, "start_response: headers are %s, not list",
                     Py_TYPE(args[1])->tp_name);
        return -1;
    }
    return 0;
}

/* `called`: before; `begun`: the response. Without exc_info once is enough. */
static int
check_state(bool called, bool begun, PyObject *exc_info)
{
    if (exc_info != Py_None) {
        return handle_exc_info(exc_info, begun);
    }
    if (called) {
        PyErr_SetString(PyExc_AssertionError,
                        "start_response called twice without exc_info");
        return -1;
    }
    return 0;
}

/* See check_state. Returns 0, or -1 with an exception: the request has ended. */
static int
read_state(PyObject *self, bool *called, bool *begun)
{
    const pws_lane *lane;

    Py_BEGIN_CRITICAL_SECTION(self);
    lane = lane_of(self);
    if (lane != NULL) {
        *called = lane->status != NULL;
        *begun = lane->x->answer != PWS_ANSWER_NONE;
    }
    Py_END_CRITICAL_SECTION();
    return lane != NULL ? 0 : -1;
}

/* The lane gets a status and headers; what it had before is the caller's then, or NULL.
 * Returns a new reference to its write(), or NULL with an exception. */
static PyObject *
swap(PyObject *self, PyObject **status, PyObject **headers)
{
    pws_lane *lane = lane_of(self);
    PyObject *had_status, *had_headers;

    if (lane == NULL) {
        return NULL;
    }
    had_status = lane->status;
    had_headers = lane->headers;
    lane->status = *status;
    lane->headers = *headers;
    *status = had_status;
    *headers = had_headers;
    return Py_NewRef(lane->write);
}

/* The one keyword that callers of a Python start_response use. */
static bool
is_exc_info_alone(PyObject *kwnames)
{
    return kwnames != NULL && PyTuple_GET_SIZE(kwnames) == 1 &&
           PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "exc_info") ==
               0;
}

static PyObject *
start_response(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t n = PyVectorcall_NARGS(nargsf);
    PyObject *headers, *status, *write;
    bool called, begun;

    if (n == 2 && is_exc_info_alone(kwnames)) {
        n++; /* the keyword's value stands behind the others */
        kwnames = NULL;
    }
    if (read_state(self, &called, &begun) < 0 ||
        check_count(self, (size_t)n, kwnames, 2, 3) < 0 || check_start(args) < 0 ||
        check_state(called, begun, n == 3 ? args[2] : Py_None) < 0) {
        return NULL;
    }
    headers = PyList_AsTuple(args[1]); /* what becomes of the list later is the app's */
    if (headers == NULL) {
        return NULL;
    }
    status = Py_NewRef(args[0]);
    Py_BEGIN_CRITICAL_SECTION(self);
    write = swap(self, &status, &headers); /* others may have run: the request may have
                                              ended */
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(status);
    Py_XDECREF(headers);
    return write;
}

static PyObject *
write_body(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (lane_of(self) == NULL || check_count(self, nargsf, kwnames, 1, 1) < 0 ||
        pws_response_write_bytes(self, &((request_callable *)self)->lane, args[0]) <
            0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Send a 103 with these headers. Returns 0 or -1, with a reason or an exception. */
static int
inform(PyObject *self, PyObject *app_headers, const char **why)
{
    pws_header small[16], *headers;
    pws_lane *lane;
    size_t count;
    int rc = -1;

    headers = pws_headers_read(app_headers, small, 16, &count);
    if (headers == NULL) {
        return -1;
    }
    lane = pws_lane_enter(self, &((request_callable *)self)->lane, PyExc_RuntimeError,
                          "early_hints() called after its request has ended");
    if (lane != NULL) {
        rc = pws_exchange_inform(lane->x, PWS_SLICE("103 Early Hints"), headers, count,
                                 why);
        pws_lane_leave(lane);
    }
    if (headers != small) {
        PyMem_Free(headers);
    }
    return rc;
}

/* wsgi.early_hints: a 103 with the given headers (RFC 8297). Ignored where it cannot be
 * sent: HTTP/1.0, or after the response has begun. */
static PyObject *
early_hints(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    const char *why = NULL;
    PyObject *headers;
    int rc;

    if (lane_of(self) == NULL || check_count(self, nargsf, kwnames, 1, 1) < 0) {
        return NULL;
    }
    /* Others may run, and change a list, until we are inside of the request. */
    headers = PyList_Check(args[0]) ? PyList_AsTuple(args[0]) : Py_NewRef(args[0]);
    if (headers == NULL) {
        return NULL;
    }
    rc = inform(self, headers, &why);
    Py_DECREF(headers);
    if (rc < 0 && why != NULL) {
        return PyErr_Format(PyExc_ValueError, "early_hints: %s in %R", why, args[0]);
    }
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
make(pws_module *module, vectorcallfunc function, const char *name)
{
    request_callable *self =
        PyObject_New(request_callable, module->request_callable_type);

    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = function;
    self->name = name;
    atomic_init(&self->lane, NULL);
    return (PyObject *)self;
}

PyObject *
pws_start_response_new(pws_module *module)
{
    return make(module, start_response, "start_response");
}

PyObject *
pws_write_new(pws_module *module)
{
    return make(module, write_body, "write");
}

PyObject *
pws_early_hints_new(pws_module *module)
{
    return make(module, early_hints, "early_hints");
}

void
pws_callable_attach(PyObject *self, pws_lane *lane)
{
    pws_lane_link_to(self, &((request_callable *)self)->lane, lane);
}

static PyObject *
represent(PyObject *self)
{
    return PyUnicode_FromFormat("<%s of pywsgiserve>",
                                ((request_callable *)self)->name);
}

static void
deallocate(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(request_callable, vectorcall),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, deallocate},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, represent},
    {Py_tp_members, members},
    {0, NULL},
};

PyType_Spec pws_request_callable_spec = {
    .name = "pywsgiserve._core.RequestCallable",
    .basicsize = sizeof(request_callable),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
