#include "py/input.h"

#include "engine/io.h"
#include "py/body_bytes.h"

/* Bodies that are streamed have no length known in advance: this is read at first. */
#define FIRST_READ (64 * 1024)

typedef struct {
    PyObject_HEAD
    pws_lane_link lane;
} input_object;

/* Go in; returns the lane, to be left again, or NULL with an exception. */
static pws_lane *
enter(PyObject *self)
{
    return pws_lane_enter(self, &((input_object *)self)->lane, PyExc_ValueError,
                          "wsgi.input used after its request has ended");
}

/* Turn the failure of a body into an exception: a cut body is not an end of file. */
static int
raise_failure(const pws_exchange *x)
{
    if (x->request.refusal != NULL) {
        PyErr_Format(PyExc_OSError, "malformed request body: %s", x->request.refusal);
    }
    else if (x->body.store == PWS_STORE_FILE) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    else {
        PyErr_SetString(PyExc_ConnectionResetError,
                        "the client has closed the connection before its body ended");
    }
    return -1;
}

/* Wait for more of a streamed body. Returns 0 or -1 with an exception. */
static int
wait_for_body(pws_lane *lane)
{
    int rc = lane->wait(lane, PWS_READABLE | PWS_PEER_DONE,
                        lane->engine->config->body_timeout_ms);

    if (rc == 0) {
        lane->x->linger = true;
        lane->x->body_status = 408;
        PyErr_SetString(PyExc_TimeoutError, "body_timeout: the client sends no more");
        return -1;
    }
    return rc < 0 ? -1 : 0;
}

/* Like pws_exchange_peek, but waits: 1, 0 at the end, -1 with an exception. */
static int
peek(pws_lane *lane, pws_slice *bytes)
{
    for (;;) {
        int rc = pws_exchange_peek(lane->x, bytes);

        if (rc >= 0) {
            return rc;
        }
        if (rc != PWS_IO_AGAIN) {
            return raise_failure(lane->x);
        }
        if (wait_for_body(lane) < 0) {
            return -1;
        }
    }
}

/* Fill `n` bytes at dst unless the body ends before. Returns the count or -1 with an
 * exception. A file is read without the GIL. */
static Py_ssize_t
fill(pws_lane *lane, char *dst, Py_ssize_t n)
{
    Py_ssize_t got = 0;

    while (got < n) {
        ssize_t rc;

        if (lane->x->body.store == PWS_STORE_FILE) {
            Py_BEGIN_ALLOW_THREADS
            rc = pws_exchange_read(lane->x, dst + got, (size_t)(n - got));
            Py_END_ALLOW_THREADS
        }
        else {
            rc = pws_exchange_read(lane->x, dst + got, (size_t)(n - got));
        }
        if (rc == 0) {
            break;
        }
        if (rc == PWS_IO_AGAIN) {
            if (wait_for_body(lane) < 0) {
                return -1;
            }
            continue;
        }
        if (rc < 0) {
            return raise_failure(lane->x);
        }
        got += rc;
    }
    return got;
}

/* Bytes that are still to come, or -1 when that is not known. */
static Py_ssize_t
remaining(const pws_exchange *x)
{
    if (x->request.body == PWS_BODY_NONE) {
        return 0;
    }
    if (x->body.complete) {
        return (Py_ssize_t)(x->body.size - x->body.taken);
    }
    if (x->request.body == PWS_BODY_LENGTH) {
        return (Py_ssize_t)(x->request.length - x->body.taken);
    }
    return -1;
}

static PyObject *
read_known(pws_lane *lane, Py_ssize_t n)
{
    bool whole = pws_body_bytes_would_do(&lane->x->body, n);
    PyObject *bytes, *less;
    Py_ssize_t got;

    if (whole) {
        bytes = pws_body_bytes_take(lane->x);
        if (bytes != NULL || PyErr_Occurred()) {
            return bytes;
        }
    }
    bytes = PyBytes_FromStringAndSize(NULL, n);
    if (bytes == NULL) {
        return NULL;
    }
    got = fill(lane, PyBytes_AS_STRING(bytes), n);
    if (got == n) {
        if (whole) {
            pws_body_bytes_want(lane->x);
        }
        return bytes;
    }
    less = got < 0 ? NULL : PyBytes_FromStringAndSize(PyBytes_AS_STRING(bytes), got);
    Py_DECREF(bytes);
    return less;
}

/* Read up to `most` bytes (-1: all) of a body whose length is not known. */
static PyObject *
read_unknown(pws_lane *lane, Py_ssize_t most)
{
    Py_ssize_t room = most >= 0 && most < FIRST_READ ? most : FIRST_READ, got = 0,
               n = 0;
    char *buffer = NULL;
    PyObject *bytes = NULL;

    do {
        char *larger = PyMem_Realloc(buffer, (size_t)room + 1);

        if (larger == NULL) {
            PyErr_NoMemory();
            goto done;
        }
        buffer = larger;
        n = fill(lane, buffer + got, room - got);
        got += n > 0 ? n : 0;
        if (n < 0 || got < room || room == most) {
            break;
        }
        room = most >= 0 && most - room < room ? most : room * 2;
    } while (true);
    if (n >= 0) {
        bytes = PyBytes_FromStringAndSize(buffer, got);
    }
done:
    PyMem_Free(buffer);
    return bytes;
}

static PyObject *
read_bytes(pws_lane *lane, Py_ssize_t most)
{
    Py_ssize_t left = remaining(lane->x);
    Py_ssize_t want = most >= 0 && (left < 0 || most < left) ? most : left;

    /* Memory is not taken for bytes that are only announced. */
    if (left < 0 || (!lane->x->body.complete && want > FIRST_READ)) {
        return read_unknown(lane, want);
    }
    return read_known(lane, want);
}

/* An optional size: None and negative numbers mean "all". */
static int
read_size(PyObject *const *args, Py_ssize_t nargs, const char *name, Py_ssize_t *size)
{
    *size = -1;
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 1 argument", name);
        return -1;
    }
    if (nargs == 1 && args[0] != Py_None) {
        *size = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
        if (*size == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
input_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *bytes;
    Py_ssize_t size;
    pws_lane *lane;

    if (read_size(args, nargs, "read", &size) < 0 || (lane = enter(self)) == NULL) {
        return NULL;
    }
    bytes = read_bytes(lane, size);
    pws_lane_leave(lane);
    return bytes;
}

/* Append to *line, which may be NULL. Returns 0 or -1 with an exception. */
static int
append(PyObject **line, pws_slice bytes)
{
    PyObject *more = PyBytes_FromStringAndSize(bytes.at, (Py_ssize_t)bytes.len);

    if (more == NULL) {
        Py_CLEAR(*line);
        return -1;
    }
    if (*line == NULL) {
        *line = more;
        return 0;
    }
    PyBytes_ConcatAndDel(line, more);
    return *line != NULL ? 0 : -1;
}

/* A line of at most `most` bytes (-1: any length), or b"" at the end. */
static PyObject *
read_line(pws_lane *lane, Py_ssize_t most)
{
    PyObject *line = NULL;
    Py_ssize_t left = most;
    bool ended = false;

    while (!ended && left != 0) {
        pws_slice bytes;
        const char *lf;
        int rc = peek(lane, &bytes);

        if (rc < 0) {
            Py_CLEAR(line);
            return NULL;
        }
        if (rc == 0) {
            break;
        }
        if (left > 0 && bytes.len > (size_t)left) {
            bytes.len = (size_t)left;
        }
        lf = memchr(bytes.at, '\n', bytes.len);
        if (lf != NULL) {
            bytes.len = (size_t)(lf - bytes.at) + 1;
            ended = true;
        }
        if (append(&line, bytes) < 0) {
            return NULL;
        }
        pws_exchange_take(lane->x, bytes.len);
        left -= left > 0 ? (Py_ssize_t)bytes.len : 0;
    }
    return line != NULL ? line : PyBytes_FromStringAndSize(NULL, 0);
}

static PyObject *
input_readline(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *line;
    Py_ssize_t size;
    pws_lane *lane;

    if (read_size(args, nargs, "readline", &size) < 0 || (lane = enter(self)) == NULL) {
        return NULL;
    }
    line = read_line(lane, size < 0 ? -1 : size);
    pws_lane_leave(lane);
    return line;
}

static PyObject *
input_readlines(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t hint, total = 0;
    PyObject *lines;
    pws_lane *lane;

    if (read_size(args, nargs, "readlines", &hint) < 0 ||
        (lane = enter(self)) == NULL) {
        return NULL;
    }
    lines = PyList_New(0);
    while (lines != NULL && (hint <= 0 || total < hint)) {
        PyObject *line = read_line(lane, -1);
        Py_ssize_t len = line != NULL ? PyBytes_GET_SIZE(line) : 0;

        if (line == NULL || (len > 0 && PyList_Append(lines, line) < 0)) {
            Py_CLEAR(lines);
        }
        Py_XDECREF(line);
        total += len;
        if (len == 0) {
            break;
        }
    }
    pws_lane_leave(lane);
    return lines;
}

static PyObject *
input_next(PyObject *self)
{
    pws_lane *lane = enter(self);
    PyObject *line;

    if (lane == NULL) {
        return NULL;
    }
    line = read_line(lane, -1);
    pws_lane_leave(lane);
    if (line != NULL && PyBytes_GET_SIZE(line) == 0) {
        Py_CLEAR(line);
    }
    return line;
}

PyObject *
pws_input_new(pws_module *module)
{
    input_object *self = PyObject_New(input_object, module->input_type);

    if (self != NULL) {
        atomic_init(&self->lane, NULL);
    }
    return (PyObject *)self;
}

void
pws_input_attach(PyObject *self, pws_lane *lane)
{
    pws_lane_link_to(self, &((input_object *)self)->lane, lane);
}

static void
deallocate(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_Free(self);
    Py_DECREF(type);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef methods[] = {
    {"read", FAST(input_read), METH_FASTCALL,
     "read(size=-1): up to size bytes of the body, all of it without size."},
    {"readline", FAST(input_readline), METH_FASTCALL,
     "readline(size=-1): one line, at most size bytes of it."},
    {"readlines", FAST(input_readlines), METH_FASTCALL,
     "readlines(hint=-1): a list of lines, of hint bytes or a little more."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, deallocate},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, input_next},
    {Py_tp_methods, methods},
    {Py_tp_doc, (char *)"The body of a request (PEP 3333, wsgi.input)."},
    {0, NULL},
};

PyType_Spec pws_input_spec = {
    .name = "pywsgiserve._core.Input",
    .basicsize = sizeof(input_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
