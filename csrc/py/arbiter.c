#include "py/arbiter.h"

#include "base/log.h"
#include "py/open_listeners.h"
#include "py/process.h"

static void
let_go(void *context)
{
    ((pws_arbiter *)context)->thread = PyEval_SaveThread();
}

static void
take_back(void *context)
{
    PyEval_RestoreThread(((pws_arbiter *)context)->thread);
}

static void
write_log(void *Py_UNUSED(context), pws_log_level level, const char *text)
{
    pws_log(level, "%s", text);
}

static void
write_record(void *Py_UNUSED(context), pws_log_level level, pws_slice text)
{
    pws_log_record(level, text);
}

/* Takes `result`, which may be NULL with an exception: that goes to stderr, since the
 * loop must go on. */
static int
finish(pws_arbiter *self, PyObject *result)
{
    if (result == NULL) {
        PyErr_WriteUnraisable(self->object);
        return -1;
    }
    Py_DECREF(result);
    return 0;
}

int
pws_arbiter_before_fork(void *context, unsigned number)
{
    pws_arbiter *self = context;
    PyObject *result = PyObject_CallMethod(self->object, "before_fork", "I", number);
    int rc = result == Py_True ? 0 : -1;

    return finish(self, result) < 0 ? -1 : rc;
}

static pid_t
fork_here(void *Py_UNUSED(context))
{
    return pws_process_fork();
}

static void
forked(void *context, pid_t pid, unsigned number)
{
    pws_arbiter *self = context;

    (void)finish(self,
                 PyObject_CallMethod(self->object, "forked", "iI", (int)pid, number));
}

static void
reaped(void *context, const pws_worker_end *end)
{
    pws_arbiter *self = context;

    (void)finish(self,
                 PyObject_CallMethod(self->object, "reaped", "iiIOs", (int)end->pid,
                                     end->status, end->place,
                                     end->timed_out ? Py_True : Py_False, end->words));
}

/* Seconds from Python as milliseconds; out of range is an error. */
static int
milliseconds(double seconds, int64_t *ms)
{
    if (!(seconds >= 0 && seconds <= 1e9)) {
        PyErr_SetString(PyExc_ValueError, "a time is out of range");
        return -1;
    }
    *ms = (int64_t)(seconds * 1000);
    return 0;
}

static int
read_number(PyObject *values, const char *name, double *number)
{
    PyObject *value = PyObject_GetAttrString(values, name);

    if (value == NULL) {
        return -1;
    }
    *number = PyFloat_AsDouble(value); /* exact for any that makes sense here */
    Py_DECREF(value);
    return *number == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static int
read_time(PyObject *values, const char *name, int64_t *ms)
{
    double seconds;

    return read_number(values, name, &seconds) < 0 ? -1 : milliseconds(seconds, ms);
}

static int
read_count(PyObject *values, const char *name, double most, uint64_t *count)
{
    double number;

    if (read_number(values, name, &number) < 0) {
        return -1;
    }
    if (!(number >= 0 && number <= most)) {
        PyErr_Format(PyExc_ValueError, "%s: out of range", name);
        return -1;
    }
    *count = (uint64_t)number;
    return 0;
}

/* From an object with attributes, see Timing in master.py. */
int
pws_arbiter_settings(PyObject *values, pws_master_settings *settings)
{
    pws_master_settings found;
    uint64_t workers, surge, rss_mib, preload, daemon;

    if (read_count(values, "workers", PWS_WORKERS_MAX, &workers) < 0 ||
        read_count(values, "max_surge", PWS_WORKERS_MAX, &surge) < 0 ||
        read_count(values, "max_worker_rss", 1e9, &rss_mib) < 0 ||
        read_count(values, "max_requests", 1e15, &found.max_requests) < 0 ||
        read_count(values, "preload", 1, &preload) < 0 ||
        read_count(values, "daemon", 1, &daemon) < 0 ||
        read_time(values, "timeout", &found.timeout_ms) < 0 ||
        read_time(values, "graceful_timeout", &found.graceful_ms) < 0 ||
        read_time(values, "max_worker_lifetime", &found.lifetime_ms) < 0 ||
        read_time(values, "drain_delay", &found.drain_ms) < 0) {
        return -1;
    }
    found.workers = (unsigned)workers;
    found.surge = (unsigned)surge;
    found.rss_max = rss_mib * 1024 * 1024;
    found.preload = preload != 0;
    found.daemon = daemon != 0;
    *settings = found;
    return 0;
}

static int
reload(void *context, pws_master_settings *settings)
{
    pws_arbiter *self = context;
    PyObject *values = PyObject_CallMethod(self->object, "reread", NULL);
    int rc = -1;

    if (values != NULL && values != Py_None &&
        pws_arbiter_settings(values, settings) == 0) {
        rc = 0;
    }
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(self->object);
    }
    Py_XDECREF(values);
    return rc;
}

static void
settled(void *context, bool kept)
{
    pws_arbiter *self = context;

    (void)finish(self, PyObject_CallMethod(self->object, "settled", "O",
                                           kept ? Py_True : Py_False));
}

static void
counted(void *context, unsigned workers)
{
    pws_arbiter *self = context;

    (void)finish(self, PyObject_CallMethod(self->object, "counted", "I", workers));
}

static void
reopen(void *context)
{
    pws_arbiter *self = context;

    (void)finish(self, PyObject_CallMethod(self->object, "reopen", NULL));
}

static void
started(void *context)
{
    pws_arbiter *self = context;

    (void)finish(self, PyObject_CallMethod(self->object, "started", NULL));
}

static void
stopping(void *context)
{
    pws_arbiter *self = context;

    (void)finish(self, PyObject_CallMethod(self->object, "stopping", NULL));
}

static void
successor(void *context, pid_t pid)
{
    pws_arbiter *self = context;

    (void)finish(self, PyObject_CallMethod(self->object, "successor", "i", (int)pid));
}

static void
promoted(void *context)
{
    pws_arbiter *self = context;

    (void)finish(self, PyObject_CallMethod(self->object, "promoted", NULL));
}

static unsigned
sockets(void *context, unsigned slot, bool own, int *fds)
{
    return pws_listeners_of(((pws_arbiter *)context)->listeners, slot, own, fds);
}

static unsigned
open_slots(void *context, unsigned wanted)
{
    pws_listeners *listeners = ((pws_arbiter *)context)->listeners;
    char why[256];

    if (pws_listeners_open(listeners, wanted, why, sizeof(why)) < 0) {
        pws_log(PWS_LOG_ERROR,
                "reuse_port: no socket for another worker, which shares one: %s", why);
    }
    return listeners->slots;
}

const pws_master_calls pws_arbiter_calls = {
    .let_go = let_go,
    .take_back = take_back,
    .log = write_log,
    .record = write_record,
    .before_fork = pws_arbiter_before_fork,
    .fork = fork_here,
    .forked = forked,
    .reaped = reaped,
    .reload = reload,
    .settled = settled,
    .counted = counted,
    .reopen = reopen,
    .started = started,
    .stopping = stopping,
    .successor = successor,
    .promoted = promoted,
    .sockets = sockets,
    .open_slots = open_slots,
};
