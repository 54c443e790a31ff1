#include "py/greenlet_host.h"

/* Requests that end between two steps until the host is asked for one: the next ones of
 * their clients may be there. */
#define LOOK_AFTER 16

static int
read_attribute(PyObject *host, const char *name, PyObject **value)
{
    *value = PyObject_GetAttrString(host, name);
    return *value != NULL ? 0 : -1;
}

int
pws_greenlet_host_read(pws_greenlets *pool, PyObject *host)
{
    PyObject *connections = NULL;
    unsigned long most;

    if (read_attribute(host, "hub", &pool->hub) < 0 ||
        read_attribute(host, "make", &pool->make) < 0 ||
        read_attribute(host, "settle", &pool->settle) < 0 ||
        read_attribute(host, "forget", &pool->forget) < 0 ||
        read_attribute(host, "late", &pool->late) < 0 ||
        read_attribute(host, "overdue", &pool->overdue) < 0 ||
        read_attribute(host, "call_off", &pool->call_off) < 0 ||
        read_attribute(host, "stray", &pool->stray) < 0 ||
        read_attribute(host, "look", &pool->look) < 0 ||
        read_attribute(host, "connections", &connections) < 0) {
        return -1;
    }
    most = PyLong_AsUnsignedLong(connections);
    Py_DECREF(connections);
    if (PyErr_Occurred()) {
        return -1;
    }
    if (!PyObject_TypeCheck(pool->hub, pool->api.type)) {
        PyErr_Format(PyExc_TypeError, "hub: expected a greenlet, got %R", pool->hub);
        return -1;
    }
    pool->most = most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
    return 0;
}

void
pws_greenlet_host_clear(pws_greenlets *pool)
{
    Py_CLEAR(pool->hub);
    Py_CLEAR(pool->make);
    Py_CLEAR(pool->settle);
    Py_CLEAR(pool->forget);
    Py_CLEAR(pool->late);
    Py_CLEAR(pool->overdue);
    Py_CLEAR(pool->call_off);
    Py_CLEAR(pool->stray);
    Py_CLEAR(pool->look);
}

/* For what it has returned, or not: nobody is there to be told but the log. */
static void
drop_result(PyObject *callable, PyObject *result)
{
    if (result == NULL) {
        PyErr_WriteUnraisable(callable);
    }
    Py_XDECREF(result);
}

void
pws_greenlet_host_settle(const pws_greenlets *pool)
{
    drop_result(pool->settle, PyObject_CallNoArgs(pool->settle));
}

/* Whether a request has left something in the __dict__ of its greenlet, such as what
 * belongs to gevent.local. Most leave nothing. */
static bool
has_left_something(PyObject *greenlet)
{
    Py_ssize_t offset = Py_TYPE(greenlet)->tp_dictoffset;
    PyObject *dict;

    if (offset <= 0) {
        return true; /* it is somewhere else */
    }
    dict = *(PyObject **)(void *)((char *)greenlet + offset);
    return dict != NULL && PyDict_GET_SIZE(dict) > 0;
}

void
pws_greenlet_host_forget(const pws_greenlets *pool, PyObject *greenlet)
{
    if (has_left_something(greenlet)) {
        drop_result(pool->forget, PyObject_CallOneArg(pool->forget, greenlet));
    }
}

void
pws_greenlet_host_look(pws_greenlets *pool)
{
    if (pool->look != Py_None && !pool->hosted->stepping &&
        ++pool->unseen == LOOK_AFTER) {
        drop_result(pool->look, PyObject_CallNoArgs(pool->look));
    }
}
