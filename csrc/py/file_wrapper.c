#include "py/file_wrapper.h"

#include <structmember.h>
#include <sys/stat.h>

/* Objects around a file that are looked through (tempfile's, Django's). */
#define WRAPPINGS_MAX 3

typedef struct {
    PyObject_HEAD
    PyObject *filelike;
    Py_ssize_t block_size;
} file_wrapper;

static PyObject *
construct(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {(char *)"filelike", (char *)"blksize", NULL};
    PyObject *filelike;
    Py_ssize_t block_size = 8192;
    file_wrapper *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|n:FileWrapper", names, &filelike,
                                     &block_size)) {
        return NULL;
    }
    self = (file_wrapper *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    Py_INCREF(filelike);
    self->filelike = filelike;
    self->block_size = block_size > 0 ? block_size : 8192;
    return (PyObject *)self;
}

static PyObject *
next_block(PyObject *self)
{
    file_wrapper *wrapper = (file_wrapper *)self;
    PyObject *size = PyLong_FromSsize_t(wrapper->block_size), *block;
    int full;

    if (size == NULL) {
        return NULL;
    }
    block = PyObject_CallMethodOneArg(wrapper->filelike,
                                      PWS_NAME(pws_module_of(self), read), size);
    Py_DECREF(size);
    if (block == NULL) {
        return NULL;
    }
    full = PyObject_IsTrue(block);
    if (full <= 0) {
        Py_CLEAR(block);
    }
    return block;
}

static PyObject *
close_file(PyObject *self, PyObject *Py_UNUSED(unused))
{
    file_wrapper *wrapper = (file_wrapper *)self;
    PyObject *close =
        PyObject_GetAttr(wrapper->filelike, PWS_NAME(pws_module_of(self), close));
    PyObject *result;

    if (close == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return NULL;
        }
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    result = PyObject_CallNoArgs(close);
    Py_DECREF(close);
    return result;
}

static bool
is_plain_type(const pws_module *module, PyObject *file)
{
    for (int i = 0; i < 3; i++) {
        if ((PyObject *)Py_TYPE(file) == module->plain_files[i]) {
            return true;
        }
    }
    return false;
}

/* The plain io file in or behind `file`: a new reference, or NULL, maybe with an
 * exception. */
static PyObject *
look_through(pws_module *module, PyObject *file)
{
    Py_INCREF(file);
    for (int i = 0; i < WRAPPINGS_MAX; i++) {
        PyObject *inner;

        if (is_plain_type(module, file)) {
            return file;
        }
        inner = PyObject_GetAttr(file, PWS_NAME(module, file));
        Py_DECREF(file);
        if (inner == NULL) {
            return NULL;
        }
        file = inner;
    }
    if (!is_plain_type(module, file)) {
        Py_CLEAR(file);
    }
    return file;
}

/* Whether reading `outer` is nothing but reading `inner`: its read() is the inner
 * file's, maybe behind a function of functools.wraps (tempfile's). Other objects may do
 * anything to what they read: end it early, decrypt it. Returns 1, 0, or -1 with an
 * exception. */
static int
reads_the_same(pws_module *module, PyObject *outer, PyObject *inner)
{
    PyObject *method, *wrapped, *owner;
    int same;

    if (outer == inner) {
        return 1;
    }
    method = PyObject_GetAttr(outer, PWS_NAME(module, read));
    if (method == NULL) {
        return -1;
    }
    wrapped = PyObject_GetAttrString(method, "__wrapped__");
    if (wrapped != NULL) {
        Py_SETREF(method, wrapped);
    }
    PyErr_Clear();
    owner = PyObject_GetAttrString(method, "__self__");
    same = owner == inner;
    PyErr_Clear();
    Py_XDECREF(owner);
    Py_DECREF(method);
    return same;
}

/* The result of a method without arguments as a number, or -1 with an exception. */
static long long
ask_number(PyObject *object, PyObject *method)
{
    PyObject *result = PyObject_CallMethodNoArgs(object, method);
    long long number;

    if (result == NULL) {
        return -1;
    }
    number = PyLong_AsLongLong(result);
    Py_DECREF(result);
    return number;
}

/* A file that cannot say where it stands is not an error: it is read in the ordinary
 * way. */
static int
not_plain(void)
{
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* The size of a regular file, or -1. One of size 0 may be of /proc, which says so of
 * all its files. Out of line: its room would lie below each app call, and be saved with
 * the stack of each greenlet that waits. */
__attribute__((noinline)) static off_t
regular_size(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 ? st.st_size
                                                                        : -1;
}

int
pws_file_wrapper_plain(pws_module *module, PyObject *wrapper, pws_plain_file *file)
{
    PyObject *outer = ((file_wrapper *)wrapper)->filelike;
    PyObject *io = look_through(module, outer);
    long long fd, offset;
    off_t size;

    if (io == NULL) {
        return not_plain();
    }
    if (reads_the_same(module, outer, io) <= 0) {
        Py_DECREF(io);
        return not_plain();
    }
    fd = ask_number(io, PWS_NAME(module, fileno));
    offset = fd >= 0 ? ask_number(io, PWS_NAME(module, tell)) : -1;
    Py_DECREF(io);
    if (fd < 0 || offset < 0) {
        return not_plain();
    }
    size = regular_size((int)fd);
    if (size < 0) {
        return 0;
    }
    file->fd = (int)fd;
    file->offset = (uint64_t)offset;
    file->length = size > offset ? (uint64_t)(size - offset) : 0;
    return 1;
}

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((file_wrapper *)self)->filelike);
    return 0;
}

static int
clear(PyObject *self)
{
    Py_CLEAR(((file_wrapper *)self)->filelike);
    return 0;
}

static void
deallocate(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    (void)clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"close", close_file, METH_NOARGS, "close(): close the file."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"filelike", T_OBJECT_EX, offsetof(file_wrapper, filelike), READONLY,
     "the file that was wrapped"},
    {"blksize", T_PYSSIZET, offsetof(file_wrapper, block_size), READONLY,
     "bytes to read at a time"},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, construct},
    {Py_tp_dealloc, deallocate},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, next_block},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_doc,
     (char *)"FileWrapper(filelike, blksize=8192): an iterable over a file (PEP 3333, "
             "wsgi.file_wrapper)."},
    {0, NULL},
};

PyType_Spec pws_file_wrapper_spec = {
    .name = "pywsgiserve._core.FileWrapper",
    .basicsize = sizeof(file_wrapper),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};
