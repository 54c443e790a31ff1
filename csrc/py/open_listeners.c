#include "py/open_listeners.h"

#include <stdlib.h>
#include <string.h>

#include "base/board.h"
#include "base/log.h"

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

/* An engine in somebody else's loop has its set in another one, where an exclusive wait
 * is none any more: so its workers get sockets of their own, whether asked for or not.
 */
static int
read_options(pws_listeners *self, PyObject *config)
{
    long backlog, mask, mode, uid, gid, defer, reuse, hosted;

    if (read_number(config, "backlog", &backlog) < 0 ||
        read_number(config, "umask", &mask) < 0 ||
        read_number(config, "socket_mode", &mode) < 0 ||
        read_number(config, "socket_uid", &uid) < 0 ||
        read_number(config, "socket_gid", &gid) < 0 ||
        read_number(config, "reuse_port", &reuse) < 0 ||
        read_number(config, "hosted", &hosted) < 0 ||
        read_number(config, "defer_accept", &defer) < 0) {
        return -1;
    }
    self->asked = reuse != 0;
    self->options =
        (pws_listener_options){.backlog = (int)backlog,
                               .umask = (mode_t)(mode < 0 ? mask : ~mode) & 0777,
                               .uid = (uid_t)uid,
                               .gid = (gid_t)gid,
                               .reuse_port = reuse != 0 || hosted != 0,
                               .alone = reuse == 0,
                               .defer_accept = defer != 0};
    return 0;
}

/* By address, then by slot. */
static int
compare(const void *a, const void *b)
{
    const pws_listener *one = a, *other = b;

    if (one->index != other->index) {
        return one->index < other->index ? -1 : 1;
    }
    return one->slot < other->slot ? -1 : one->slot > other->slot;
}

static void
sort(pws_listeners *self)
{
    qsort(self->items, self->count, sizeof(*self->items), compare);
}

/* Give the newest its address and slot: where each worker has its own, the next of
 * that address. */
static void
place_newest(pws_listeners *self)
{
    pws_listener *newest = &self->items[self->count];
    bool own = self->options.reuse_port && pws_listener_can_share(newest);

    newest->index = self->addresses;
    newest->slot = own ? 0 : PWS_EVERY_SLOT;
    for (unsigned i = 0; own && i < self->count; i++) {
        const pws_listener *other = &self->items[i];

        if (other->slot != PWS_EVERY_SLOT && pws_listeners_same(other, newest)) {
            newest->index = other->index;
            newest->slot++;
        }
    }
    self->addresses += newest->index == self->addresses;
    if (own) {
        self->grows = true;
        self->slots = newest->slot < self->slots ? self->slots : newest->slot + 1;
    }
    self->count++;
}

/* The addresses of a setting, and what is spoken there. */
typedef struct {
    const char *name;
    PyObject *binds; /* a tuple, or NULL with an exception set */
    pws_protocol protocol;
} group;

#define GROUP_COUNT 2

/* Whether another protocol is spoken at the last one's address: it may be the same
 * inherited socket, or SO_REUSEPORT has the kernel choose for each connection. */
static bool
is_spoken_otherwise(pws_listeners *self)
{
    pws_listener *last = &self->items[self->count - 1];

    for (unsigned i = 0; i < self->count - 1; i++) {
        const pws_listener *l = &self->items[i];

        if (l->protocol != last->protocol && pws_listeners_same(l, last)) {
            if (l->fd == last->fd) {
                last->fd = -1; /* the other one closes it */
            }
            return true;
        }
    }
    return false;
}

static int
open_one(pws_listeners *self, const group *g, PyObject *bind)
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
        rc = pws_listener_open(listener, &address, &self->options, why, sizeof(why));
    }
    Py_END_ALLOW_THREADS
    if (rc < 0) {
        PyErr_Format(PyExc_ValueError, "%s: '%s': %s", g->name, text, why);
        return -1;
    }
    listener->protocol = g->protocol;
    place_newest(self);
    if (is_spoken_otherwise(self)) {
        PyErr_Format(PyExc_ValueError, "%s: '%s': HTTP is spoken there", g->name, text);
        return -1;
    }
    if (self->asked && address.inherited_fd >= 0 && !pws_listener_is_unix(listener) &&
        listener->slot == PWS_EVERY_SLOT) {
        pws_log(PWS_LOG_WARNING,
                "reuse_port: '%s' was made without SO_REUSEPORT: all workers share it",
                text);
    }
    return 0;
}

/* One more at an address that has sockets of their own, for `slot`. */
static int
open_beside(pws_listeners *self, const pws_listener *first, unsigned slot, char *why,
            size_t why_room)
{
    pws_listener *listener = &self->items[self->count];
    pws_listener_options options = self->options;
    pws_address address = first->address;
    pws_protocol protocol = first->protocol;
    unsigned index = first->index;

    address.inherited_fd = -1;
    options.alone = false;
    if (pws_listener_open(listener, &address, &options, why, why_room) < 0) {
        return -1;
    }
    listener->protocol = protocol;
    listener->index = index;
    listener->slot = slot;
    self->count++;
    return 0;
}

static bool
has_slot(const pws_listeners *self, unsigned index, unsigned slot)
{
    for (unsigned i = 0; i < self->count; i++) {
        if (self->items[i].index == index && self->items[i].slot == slot) {
            return true;
        }
    }
    return false;
}

/* Whatever `slot` lacks. What was opened stays when another one cannot be: clients may
 * have reached it. */
static int
open_slot(pws_listeners *self, unsigned slot, char *why, size_t why_room)
{
    unsigned before = self->count;

    for (unsigned i = 0; i < before; i++) {
        const pws_listener *first = &self->items[i];

        if (first->slot == 0 && !has_slot(self, first->index, slot) &&
            open_beside(self, first, slot, why, why_room) < 0) {
            return -1;
        }
    }
    return 0;
}

int
pws_listeners_reserve(pws_listeners *self, size_t room)
{
    pws_listener *items = PyMem_Realloc(self->items, room * sizeof(*items));

    if (items == NULL) {
        return -1;
    }
    self->items = items;
    self->room = (unsigned)room;
    return 0;
}

int
pws_listeners_open(pws_listeners *self, unsigned slots, char *why, size_t why_room)
{
    int rc = 0;

    if (!self->grows) {
        return 0;
    }
    if (pws_listeners_reserve(self, (size_t)self->addresses * slots + self->count) <
        0) {
        snprintf(why, why_room, "out of memory");
        return -1;
    }
    for (unsigned slot = 0; rc == 0 && slot < slots; slot++) {
        rc = open_slot(self, slot, why, why_room);
        if (rc == 0 && slot >= self->slots) {
            self->slots = slot + 1;
        }
    }
    sort(self);
    return rc;
}

static int
open_slots(pws_listeners *self, PyObject *config)
{
    char why[256];
    long slots;

    if (read_number(config, "worker_slots", &slots) < 0) {
        return -1;
    }
    sort(self);
    if (self->asked && !self->grows && slots > 1) {
        pws_log(PWS_LOG_WARNING,
                "reuse_port: no address takes a socket a worker: they share all");
    }
    if (pws_listeners_open(
            self, self->slots > (unsigned)slots ? self->slots : (unsigned)slots, why,
            sizeof(why)) < 0) {
        PyErr_Format(PyExc_ValueError, "reuse_port: %ld workers need a socket each: %s",
                     slots, why);
        return -1;
    }
    if (self->slots > PWS_WORKERS_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "bind: %u sockets of one address, more than the %d that workers "
                     "can have",
                     self->slots, PWS_WORKERS_MAX);
        return -1;
    }
    return 0;
}

/* Open the addresses of both settings. */
static int
open_groups(pws_listeners *self, const group *groups)
{
    size_t count = 1;

    for (size_t i = 0; i < GROUP_COUNT; i++) {
        if (groups[i].binds == NULL) {
            return -1;
        }
        count += (size_t)PyTuple_GET_SIZE(groups[i].binds);
    }
    if (pws_listeners_reserve(self, count) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < GROUP_COUNT; i++) {
        for (Py_ssize_t j = 0; j < PyTuple_GET_SIZE(groups[i].binds); j++) {
            if (open_one(self, &groups[i], PyTuple_GET_ITEM(groups[i].binds, j)) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* `binds` is taken. */
static group
make_group(const char *name, PyObject *binds, pws_protocol protocol)
{
    group g = {name, binds != NULL ? PySequence_Tuple(binds) : NULL, protocol};

    Py_XDECREF(binds);
    return g;
}

static int
open_binds(pws_listeners *self, PyObject *config)
{
    group groups[GROUP_COUNT] = {{NULL, NULL, PWS_PROTOCOL_HTTP}};
    int rc = -1;

    groups[0] =
        make_group("bind", PyObject_GetAttrString(config, "bind"), PWS_PROTOCOL_HTTP);
    if (groups[0].binds != NULL) {
        groups[1] =
            make_group("uwsgi_bind", PyObject_GetAttrString(config, "uwsgi_bind"),
                       PWS_PROTOCOL_UWSGI);
        rc = open_groups(self, groups);
    }
    Py_XDECREF(groups[0].binds);
    Py_XDECREF(groups[1].binds);
    return rc;
}

/* `item`: what a server before us, or systemd, has opened. A descriptor; for the file
 * of a Unix socket that is left to us its path, device and inode, else None; and what
 * is spoken there. */
static int
adopt_one(pws_listeners *self, PyObject *item)
{
    const pws_listener_options options = {.backlog = self->options.backlog};
    pws_listener *listener = &self->items[self->count];
    pws_address address = {.inherited_fd = -1};
    unsigned long long device, inode;
    const char *protocol;
    PyObject *path;
    char why[256];

    if (!PyArg_ParseTuple(item, "iOKKs:inherited", &address.inherited_fd, &path,
                          &device, &inode, &protocol)) {
        return -1;
    }
    if (pws_listener_open(listener, &address, &options, why, sizeof(why)) < 0) {
        PyErr_Format(PyExc_ValueError, "bind: inherited descriptor %d: %s",
                     address.inherited_fd, why);
        return -1;
    }
    listener->protocol =
        strcmp(protocol, "uwsgi") == 0 ? PWS_PROTOCOL_UWSGI : PWS_PROTOCOL_HTTP;
    place_newest(self);
    (void)listen(listener->fd, options.backlog); /* it does: this sets the length */
    if (PyBytes_Check(path)) {
        pws_listener_inherit_file(listener, PyBytes_AS_STRING(path), (dev_t)device,
                                  (ino_t)inode);
    }
    return 0;
}

static int
adopt_all(pws_listeners *self, PyObject *inherited)
{
    PyObject *items = PySequence_Tuple(inherited);
    int rc = -1;

    if (items == NULL) {
        return -1;
    }
    if (pws_listeners_reserve(self, (size_t)PyTuple_GET_SIZE(items) + 1) < 0) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++) {
        if (adopt_one(self, PyTuple_GET_ITEM(items, i)) < 0) {
            goto done;
        }
    }
    rc = 0;
done:
    Py_DECREF(items);
    return rc;
}

int
pws_listeners_fill(pws_listeners *self, PyObject *config, PyObject *inherited)
{
    bool adopts = inherited != NULL && PyObject_IsTrue(inherited) != 0;

    if (read_options(self, config) < 0) {
        return -1;
    }
    self->slots = 1;
    if ((adopts ? adopt_all(self, inherited) : open_binds(self, config)) < 0) {
        return -1;
    }
    return open_slots(self, config);
}
