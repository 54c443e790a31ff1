#include "py/process.h"

#include <errno.h>
#include <unistd.h>

#include "engine/address.h"
#include "proc/daemon.h"
#include "proc/pidfile.h"
#include "proc/privileges.h"
#include "proc/title.h"

typedef struct {
    PyObject_HEAD
    pws_pidfile file;
    bool open;
} pidfile_object;

static PyObject *
open_pidfile(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {(char *)"path", NULL};
    PyObject *path;
    pidfile_object *self;
    char why[256];

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&:Pidfile", names,
                                     PyUnicode_FSConverter, &path)) {
        return NULL;
    }
    self = (pidfile_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->open = pws_pidfile_open(&self->file, PyBytes_AS_STRING(path), why,
                                      sizeof(why)) == 0;
        if (!self->open) {
            PyErr_SetString(PyExc_ValueError, why);
            Py_CLEAR(self);
        }
    }
    Py_DECREF(path);
    return (PyObject *)self;
}

static PyObject *
close_pidfile(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pidfile_object *self = (pidfile_object *)object;

    if (self->open) {
        self->open = false;
        pws_pidfile_close(&self->file);
    }
    Py_RETURN_NONE;
}

static PyObject *
move_pidfile(PyObject *object, PyObject *args)
{
    pidfile_object *self = (pidfile_object *)object;
    PyObject *path;
    char why[256];
    int rc;

    if (!PyArg_ParseTuple(args, "O&:move", PyUnicode_FSConverter, &path)) {
        return NULL;
    }
    if (!self->open) {
        Py_DECREF(path);
        PyErr_SetString(PyExc_ValueError, "the file is not ours any more");
        return NULL;
    }
    rc = pws_pidfile_move(&self->file, PyBytes_AS_STRING(path), why, sizeof(why));
    Py_DECREF(path);
    if (rc < 0) {
        PyErr_SetString(PyExc_ValueError, why);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
forget_pidfile(PyObject *object, PyObject *Py_UNUSED(unused))
{
    pidfile_object *self = (pidfile_object *)object;

    if (self->open) {
        self->open = false;
        pws_pidfile_forget(&self->file);
    }
    Py_RETURN_NONE;
}

static void
deallocate(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    Py_XDECREF(close_pidfile(object, NULL));
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef pidfile_methods[] = {
    {"move", move_pidfile, METH_VARARGS,
     "move(path): rename it, over a file that no living server holds."},
    {"close", close_pidfile, METH_NOARGS, "close(): remove the file if it is ours."},
    {"forget", forget_pidfile, METH_NOARGS,
     "forget(): in a forked child, leave it to the parent."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pidfile_slots[] = {
    {Py_tp_new, open_pidfile},
    {Py_tp_dealloc, deallocate},
    {Py_tp_methods, pidfile_methods},
    {Py_tp_doc, (char *)"Pidfile(path): a file with our number, locked."},
    {0, NULL},
};

PyType_Spec pws_pidfile_spec = {
    .name = "pywsgiserve._core.Pidfile",
    .basicsize = sizeof(pidfile_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = pidfile_slots,
};

pid_t
pws_process_fork(void)
{
    pid_t pid;
    int saved;

    PyOS_BeforeFork();
    pid = fork();
    saved = errno;
    if (pid == 0) {
        PyOS_AfterFork_Child();
    }
    else {
        PyOS_AfterFork_Parent();
    }
    errno = saved;
    return pid;
}

static PyObject *
watch(pws_daemon *daemon)
{
    int code;

    do {
        Py_BEGIN_ALLOW_THREADS
        code = pws_daemon_watch(daemon);
        Py_END_ALLOW_THREADS
        if (code < 0 && errno != EINTR) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        if (code < 0 && PyErr_CheckSignals() < 0) {
            return NULL;
        }
    } while (code < 0);
    return Py_BuildValue("ii", code, -1);
}

static PyObject *
daemonize(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    pws_daemon daemon;
    int rc = pws_daemon_begin(&daemon, pws_process_fork);

    if (rc < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (rc > 0) {
        return watch(&daemon);
    }
    return Py_BuildValue("Oi", Py_None, daemon.status_fd);
}

static PyObject *
drop_privileges(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long uid, gid;
    const char *groups_of;
    pws_privileges wanted;
    char why[256];

    if (!PyArg_ParseTuple(args, "kkz:drop_privileges", &uid, &gid, &groups_of)) {
        return NULL;
    }
    wanted = (pws_privileges){(uid_t)uid, (gid_t)gid, groups_of};
    if (pws_privileges_drop(&wanted, why, sizeof(why)) < 0) {
        PyErr_SetString(PyExc_PermissionError, why);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
forbid_new_privileges(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    char why[256];

    if (pws_privileges_forbid_new(why, sizeof(why)) < 0) {
        PyErr_SetString(PyExc_PermissionError, why);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
set_title(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *name, *text;

    if (!PyArg_ParseTuple(args, "ss:set_title", &name, &text)) {
        return NULL;
    }
    pws_title_set(name, text);
    Py_RETURN_NONE;
}

static PyObject *
check_address(PyObject *Py_UNUSED(module), PyObject *object)
{
    const char *text = PyUnicode_AsUTF8(object);
    pws_address address;
    char why[256], room[PWS_ADDRESS_ROOM];

    if (text == NULL) {
        return NULL;
    }
    if (pws_address_parse(&address, text, why, sizeof(why)) < 0) {
        PyErr_Format(PyExc_ValueError, "'%s': %s", text, why);
        return NULL;
    }
    if (address.inherited_fd >= 0) {
        return PyUnicode_FromFormat("fd://%d", address.inherited_fd);
    }
    return PyUnicode_DecodeFSDefault(pws_address_format(&address, room, sizeof(room)));
}

/* Returns 0, or -1 with an exception. */
static int
call_each(PyObject *objects, const char *method)
{
    int rc = 0;

    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(objects) && rc == 0; i++) {
        PyObject *none = PyObject_CallMethod(PyList_GET_ITEM(objects, i), method, NULL);

        rc = none != NULL ? 0 : -1;
        Py_XDECREF(none);
    }
    return rc;
}

/* The two ends of a fork are each one call of C: between lines of Python a handler of a
 * signal might raise, and leave one end undone. */
static PyObject *
pause_for_fork(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *servers, *paused, *now;
    int rc;

    if (!PyArg_ParseTuple(args, "O!O!:pause_for_fork", &PyList_Type, &servers,
                          &PyList_Type, &paused)) {
        return NULL;
    }
    now = PyList_GetSlice(servers, 0, PyList_GET_SIZE(servers));
    if (now == NULL || PyList_Append(paused, now) < 0) {
        Py_XDECREF(now);
        return NULL;
    }
    rc = call_each(now, "pause_relief");
    Py_DECREF(now);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
resume_after_fork(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *paused, *last;
    Py_ssize_t n;
    int rc;

    if (!PyArg_ParseTuple(args, "O!:resume_after_fork", &PyList_Type, &paused)) {
        return NULL;
    }
    n = PyList_GET_SIZE(paused);
    if (n == 0) {
        Py_RETURN_NONE; /* there was no memory to note them */
    }
    last = Py_NewRef(PyList_GET_ITEM(paused, n - 1));
    rc = PyList_SetSlice(paused, n - 1, n, NULL) < 0 ? -1
                                                     : call_each(last, "resume_relief");
    Py_DECREF(last);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

PyMethodDef pws_process_methods[] = {
    {"daemonize", daemonize, METH_NOARGS,
     "daemonize(): go on in the background. In the daemon (None, FD): its exit code, a "
     "byte to FD, ends the caller, to whose stderr it writes until then. In the caller "
     "(exit code, -1), once that is known."},
    {"drop_privileges", drop_privileges, METH_VARARGS,
     "drop_privileges(uid, gid, groups_of): become another user for good; with the "
     "groups of a user that is named."},
    {"forbid_new_privileges", forbid_new_privileges, METH_NOARGS,
     "forbid_new_privileges(): no program that is started here has more rights."},
    {"check_address", check_address, METH_O,
     "check_address(text): the address as Listeners shows it; ValueError, unless a "
     "socket could be bound to that."},
    {"pause_for_fork", pause_for_fork, METH_VARARGS,
     "pause_for_fork(servers, paused): before a fork, pause them, and append their "
     "list "
     "to `paused`."},
    {"resume_after_fork", resume_after_fork, METH_VARARGS,
     "resume_after_fork(paused): in the parent, let the last of these lists go on."},
    {"set_title", set_title, METH_VARARGS,
     "set_title(name, text): what the process list shows."},
    {NULL, NULL, 0, NULL},
};
