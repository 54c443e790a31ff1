#include "py/server_threads.h"

bool
pws_server_wants_threads(const pws_server *self)
{
    return self->settings.threads > 1 && !self->settings.engine.hosted;
}

int
pws_server_make_threads(pws_server *self, const pws_lane_config *config)
{
    if (self->threads == NULL) {
        self->threads = pws_threads_new(config, self->settings.threads);
        if (self->threads == NULL) {
            return -1;
        }
        Py_INCREF(config->app);
        self->threads_app = config->app;
    }
    return 0;
}

/* They are to be there for the app that they were made for. */
static int
provide(pws_server *self, const pws_lane_config *config)
{
    if (pws_server_make_threads(self, config) < 0) {
        return -1;
    }
    if (self->threads_app != config->app) {
        PyErr_SetString(PyExc_ValueError, "prepare() was called with another app");
        return -1;
    }
    return 0;
}

int
pws_server_serve_threads(pws_server *self, const pws_lane_config *config)
{
    int rc;

    if (provide(self, config) < 0) {
        return -1;
    }
    self->serving = true;
    rc = pws_threads_serve(self->threads);
    pws_server_end_threads(self);
    self->serving = false;
    return rc;
}

int
pws_server_begin_threads(pws_server *self, const pws_lane_config *config)
{
    if (provide(self, config) < 0 || pws_warden_begin(pws_server_warden(self)) < 0) {
        return -1;
    }
    Py_INCREF(config->app);
    self->app = config->app;
    self->serving = true;
    return 0;
}

PyObject *
pws_server_interrupt(PyObject *object, PyObject *exception)
{
    const pws_server *self = (const pws_server *)object;
    int n = self->threads != NULL ? pws_threads_interrupt(self->threads, exception) : 0;

    return n < 0 ? NULL : PyLong_FromLong(n);
}

void
pws_server_end_threads(pws_server *self)
{
    if (self->threads == NULL || self->left_behind) {
        return;
    }
    if (pws_threads_free(self->threads)) {
        self->threads = NULL;
        Py_CLEAR(self->threads_app);
    }
    else {
        self->left_behind = true;
        Py_INCREF((PyObject *)self); /* for good */
    }
}
