#include "py/log.h"

#include "base/log.h"
#include "base/ring.h"

/* For PyArg_Parse...: a pws_log_level. */
static int
convert_level(PyObject *object, void *level)
{
    long number = PyLong_AsLong(object);

    if (number < PWS_LOG_DEBUG || number > PWS_LOG_CRITICAL) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "level: expected 0 to 4, got %ld", number);
        }
        return 0;
    }
    *(pws_log_level *)level = (pws_log_level)number;
    return 1;
}

static PyObject *
log_open(PyObject *Py_UNUSED(module), PyObject *args)
{
    pws_log_level level;
    int fd;

    if (!PyArg_ParseTuple(args, "iO&:log_open", &fd, convert_level, &level)) {
        return NULL;
    }
    if (pws_log_open(fd, level) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *
log_record(PyObject *Py_UNUSED(module), PyObject *args)
{
    pws_log_level level;
    PyObject *text, *bytes;

    if (!PyArg_ParseTuple(args, "O&U:log_record", convert_level, &level, &text)) {
        return NULL;
    }
    bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    if (bytes == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    pws_log_record(
        level, (pws_slice){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)});
    Py_END_ALLOW_THREADS
    Py_DECREF(bytes);
    Py_RETURN_NONE;
}

static PyObject *
log_text(PyObject *Py_UNUSED(module), PyObject *data)
{
    Py_buffer view;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    pws_log_text((pws_slice){view.buf, (size_t)view.len});
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    Py_RETURN_NONE;
}

static PyObject *
log_flush(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    pws_log_flush();
    Py_RETURN_NONE;
}

int
pws_log_ring_memory(PyObject *object, Py_buffer *view)
{
    if (PyObject_GetBuffer(object, view, PyBUF_WRITABLE) < 0) {
        return -1;
    }
    if (view->len != PWS_RING_SIZE || (uintptr_t)view->buf % 8 != 0) {
        PyErr_Format(PyExc_ValueError, "a ring has %u bytes, aligned to 8",
                     PWS_RING_SIZE);
        PyBuffer_Release(view);
        return -1;
    }
    return 0;
}

static PyObject *
log_drain(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *memory;
    Py_buffer view;
    bool empty;
    int fd;

    if (!PyArg_ParseTuple(args, "Oi:log_drain", &memory, &fd) ||
        pws_log_ring_memory(memory, &view) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    empty = pws_ring_drain(view.buf, PWS_RING_SIZE, fd);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return PyBool_FromLong(empty);
}

PyMethodDef pws_log_methods[] = {
    {"log_open", log_open, METH_VARARGS,
     "log_open(fd, level): log to a duplicate of fd, from this level upwards."},
    {"log_record", log_record, METH_VARARGS,
     "log_record(level, text): a record in the error log, of one line or more."},
    {"log_text", log_text, METH_O, "log_text(data): bytes for the error log, as is."},
    {"log_flush", log_flush, METH_NOARGS,
     "log_flush(): say which lines were left out until now."},
    {"log_drain", log_drain, METH_VARARGS,
     "log_drain(memory, fd): write the lines of a process that has died; whether all."},
    {NULL, NULL, 0, NULL},
};
