#include "py/listeners.h"

/* An integer attribute. Returns 0, or -1 with an exception set. */
static int
read_number(PyObject *config, const char *name, long *number)
{
    PyObject *value = PyObject_GetAttrString(config, name);

    if (value == NULL) {
        return -1;
    }
    *number = PyLong_AsLong(value);
    Py_DECREF(value);
    return *number == -1 && PyErr_Occurred() ? -1 : 0;
}

static int
read_options(PyObject *config, pws_listener_options *options)
{
    long backlog, mask, uid, gid, defer, reuse;

    if (read_number(config, "backlog", &backlog) < 0 ||
        read_number(config, "umask", &mask) < 0 ||
        read_number(config, "socket_uid", &uid) < 0 ||
        read_number(config, "socket_gid", &gid) < 0 ||
        read_number(config, "reuse_port", &reuse) < 0 ||
        read_number(config, "defer_accept", &defer) < 0) {
        return -1;
    }
    *options = (pws_listener_options){.backlog = (int)backlog,
                                      .umask = (mode_t)mask & 0777,
                                      .uid = (uid_t)uid,
                                      .gid = (gid_t)gid,
                                      .reuse_port = reuse != 0,
                                      .defer_accept = defer != 0};
    return 0;
}

static int
open_one(pws_listeners *self, PyObject *bind, const pws_listener_options *options)
{
    pws_listener *listener = &self->items[self->count];
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
        rc = pws_listener_open(listener, &address, options, why, sizeof(why));
    }
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        PyErr_Format(PyExc_ValueError, "bind: '%s': %s", text, why);
        return -1;
    }
    listener->index = self->count++;
    return 0;
}

static int
open_all(pws_listeners *self, PyObject *config)
{
    PyObject *binds = PyObject_GetAttrString(config, "bind");
    PyObject *items = binds != NULL ? PySequence_Tuple(binds) : NULL;
    pws_listener_options options;
    int rc = -1;

    Py_XDECREF(binds);
    if (items == NULL || read_options(config, &options) < 0) {
        goto done;
    }
    self->items =
        PyMem_Calloc((size_t)PyTuple_GET_SIZE(items) + 1, sizeof(*self->items));
    if (self->items == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++) {
        if (open_one(self, PyTuple_GET_ITEM(items, i), &options) < 0) {
            goto done;
        }
    }
    rc = 0;
done:
    Py_XDECREF(items);
    return rc;
}

/* `item`: what a server before us, or systemd, has opened. A descriptor, and for the
 * file of a Unix socket that is left to us its path, device and inode, else None. */
static int
adopt_one(pws_listeners *self, PyObject *item, int backlog)
{
    const pws_listener_options options = {.backlog = backlog};
    pws_listener *listener = &self->items[self->count];
    pws_address address = {.inherited_fd = -1};
    unsigned long long device, inode;
    PyObject *path;
    char why[256];

    if (!PyArg_ParseTuple(item, "iOKK:inherited", &address.inherited_fd, &path, &device,
                          &inode)) {
        return -1;
    }
    if (pws_listener_open(listener, &address, &options, why, sizeof(why)) < 0) {
        PyErr_Format(PyExc_ValueError, "bind: inherited descriptor %d: %s",
                     address.inherited_fd, why);
        return -1;
    }
    listener->index = self->count++;
    (void)listen(listener->fd, backlog); /* it does already: this sets the length */
    if (PyBytes_Check(path)) {
        pws_listener_inherit_file(listener, PyBytes_AS_STRING(path), (dev_t)device,
                                  (ino_t)inode);
    }
    return 0;
}

static int
adopt_all(pws_listeners *self, PyObject *config, PyObject *inherited)
{
    PyObject *items = PySequence_Tuple(inherited);
    pws_listener_options options;
    int rc = -1;

    if (items == NULL || read_options(config, &options) < 0) {
        goto done;
    }
    self->items =
        PyMem_Calloc((size_t)PyTuple_GET_SIZE(items) + 1, sizeof(*self->items));
    if (self->items == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++) {
        if (adopt_one(self, PyTuple_GET_ITEM(items, i), options.backlog) < 0) {
            goto done;
        }
    }
    rc = 0;
done:
    Py_XDECREF(items);
    return rc;
}

void
pws_listeners_adopt(pws_listeners *self, const int *fds)
{
    for (unsigned i = 0; i < self->count; i++) {
        self->items[i].fd = fds[i];
    }
}

static PyObject *
construct(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {(char *)"config", (char *)"inherited", NULL};
    PyObject *config, *inherited = NULL;
    pws_listeners *self;
    int rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:Listeners", names, &config,
                                     &inherited)) {
        return NULL;
    }
    self = (pws_listeners *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    rc = inherited != NULL && PyObject_IsTrue(inherited) != 0
             ? adopt_all(self, config, inherited)
             : open_all(self, config);
    if (rc < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyObject *
close_listeners(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_listeners *self = (pws_listeners *)object;

    for (unsigned i = 0; i < self->count; i++) {
        pws_listener_close(&self->items[i]);
    }
    Py_RETURN_NONE;
}

static PyObject *
leave(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pws_listeners *self = (pws_listeners *)object;

    for (unsigned i = 0; i < self->count; i++) {
        pws_listener_leave(&self->items[i]);
    }
    Py_RETURN_NONE;
}

static PyObject *
share(PyObject *object, PyObject *shared)
{
    pws_listeners *self = (pws_listeners *)object;

    for (unsigned i = 0; i < self->count; i++) {
        self->items[i].shared = shared == Py_True;
    }
    Py_RETURN_NONE;
}

static PyObject *
inheritable(PyObject *object, void *Py_UNUSED(unused))
{
    pws_listeners *self = (pws_listeners *)object;
    PyObject *list = PyList_New(0);

    for (unsigned i = 0; list != NULL && i < self->count; i++) {
        const pws_listener *l = &self->items[i];
        PyObject *item;

        if (l->fd < 0) {
            continue;
        }
        item = Py_BuildValue(
            "iyKK", l->fd, l->inode != 0 ? l->address.sa.local.sun_path : NULL,
            (unsigned long long)l->device, (unsigned long long)l->inode);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

static void
deallocate(PyObject *object)
{
    pws_listeners *self = (pws_listeners *)object;
    PyTypeObject *type = Py_TYPE(object);

    for (unsigned i = 0; i < self->count; i++) {
        pws_listener_close(&self->items[i]);
    }
    PyMem_Free(self->items);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *
addresses(PyObject *object, void *Py_UNUSED(unused))
{
    pws_listeners *self = (pws_listeners *)object;
    PyObject *list = PyList_New(0);

    for (unsigned i = 0; list != NULL && i < self->count; i++) {
        char room[PWS_ADDRESS_ROOM];
        PyObject *text = PyUnicode_DecodeFSDefault(
            pws_address_format(&self->items[i].address, room, sizeof(room)));
        /* With reuse_port an address may have several sockets. */
        int there = text != NULL ? PySequence_Contains(list, text) : -1;

        if (there < 0 || (there == 0 && PyList_Append(list, text) < 0)) {
            Py_CLEAR(list);
        }
        Py_XDECREF(text);
    }
    return list;
}

static PyMethodDef methods[] = {
    {"close", close_listeners, METH_NOARGS,
     "close(): close this process' copies; who opened them removes the Unix paths too. "
     "Idempotent."},
    {"leave", leave, METH_NOARGS,
     "leave(): close them, and leave the files of Unix sockets to a later close()."},
    {"share", share, METH_O,
     "share(shared): whether another server has them, too: then close() leaves a file "
     "at which somebody listens."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"addresses", addresses, NULL, "Where the sockets listen, as text.", NULL},
    {"inheritable", inheritable, NULL,
     "For Listeners(..., inherited) of a program that gets the descriptors: for each "
     "one the number, and path, device and inode of the file that we have made.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, construct},
    {Py_tp_dealloc, deallocate},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_tp_doc,
     (char *)"Listeners(config, inherited=()): bound and listening sockets, or those "
             "that are inherited."},
    {0, NULL},
};

PyType_Spec pws_listeners_spec = {
    .name = "pywsgiserve._core.Listeners",
    .basicsize = sizeof(pws_listeners),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};
