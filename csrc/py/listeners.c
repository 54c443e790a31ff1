#include "py/listeners.h"

#include "base/board.h"
#include "py/open_listeners.h"

unsigned
pws_listeners_of(const pws_listeners *self, unsigned slot, bool own, int *fds)
{
    unsigned n = 0;

    for (unsigned i = 0; i < self->count; i++) {
        const pws_listener *l = &self->items[i];

        if (l->slot == slot || (!own && l->slot == PWS_EVERY_SLOT)) {
            fds[n++] = l->fd;
        }
    }
    return n;
}

int
pws_listeners_keep(pws_listeners *self, unsigned slot)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < self->count; i++) {
        pws_listener *l = &self->items[i];

        if (l->slot == slot || l->slot == PWS_EVERY_SLOT) {
            self->items[kept++] = *l;
        }
        else {
            pws_listener_close(l);
        }
    }
    self->count = kept;
    if (self->grows && pws_listeners_reserve(self, kept + (size_t)self->addresses *
                                                              PWS_WORKERS_MAX) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

int
pws_listeners_adopt(pws_listeners *self, const int *fds)
{
    if (pws_listeners_keep(self, 0) < 0) {
        return -1;
    }
    for (unsigned i = 0; i < self->count; i++) {
        self->items[i].fd = fds[i];
    }
    return 0;
}

static PyObject *
construct(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {(char *)"config", (char *)"inherited", NULL};
    PyObject *config, *inherited = NULL;
    pws_listeners *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:Listeners", names, &config,
                                     &inherited)) {
        return NULL;
    }
    self = (pws_listeners *)type->tp_alloc(type, 0);
    if (self != NULL && pws_listeners_fill(self, config, inherited) < 0) {
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

static const char *
name_of(pws_protocol protocol)
{
    return protocol == PWS_PROTOCOL_UWSGI ? "uwsgi" : "http";
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
        item = Py_BuildValue("iyKKs", l->fd,
                             l->inode != 0 ? l->address.sa.local.sun_path : NULL,
                             (unsigned long long)l->device,
                             (unsigned long long)l->inode, name_of(l->protocol));
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
        PyObject *text;

        if (i > 0 && pws_listeners_same(&self->items[i - 1], &self->items[i])) {
            continue;
        }
        text = PyUnicode_DecodeFSDefault(
            pws_address_format(&self->items[i].address, room, sizeof(room)));

        if (text == NULL || PyList_Append(list, text) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(text);
    }
    return list;
}

static PyObject *
filenos(PyObject *object, void *Py_UNUSED(unused))
{
    pws_listeners *self = (pws_listeners *)object;
    PyObject *list = PyList_New(0);

    for (unsigned i = 0; list != NULL && i < self->count; i++) {
        PyObject *number;

        if (i > 0 && pws_listeners_same(&self->items[i - 1], &self->items[i])) {
            continue;
        }
        number = PyLong_FromLong(self->items[i].fd);
        if (number == NULL || PyList_Append(list, number) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(number);
    }
    return list;
}

static PyObject *
protocols(PyObject *object, void *Py_UNUSED(unused))
{
    pws_listeners *self = (pws_listeners *)object;
    PyObject *list = PyList_New(0);

    for (unsigned i = 0; list != NULL && i < self->count; i++) {
        PyObject *text;

        if (i > 0 && pws_listeners_same(&self->items[i - 1], &self->items[i])) {
            continue;
        }
        text = PyUnicode_FromString(name_of(self->items[i].protocol));
        if (text == NULL || PyList_Append(list, text) < 0) {
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
     "one the number, and path, device and inode of the file that we have made, and "
     "what is spoken there. By "
     "address, and of one address by worker slot: it has the same slots then.",
     NULL},
    {"filenos", filenos, NULL,
     "A descriptor of each of these addresses; -1: it is closed.", NULL},
    {"protocols", protocols, NULL, "What is spoken to each: http or uwsgi.", NULL},
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
