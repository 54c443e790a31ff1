#include "py/lane.h"

#include "py/callable.h"
#include "py/client_socket.h"
#include "py/environ.h"
#include "py/input.h"

/* Attach all objects of the lane to it, or detach them. */
static int
attach(pws_lane *lane, pws_lane *to)
{
    pws_callable_attach(lane->start_response, to);
    pws_callable_attach(lane->write, to);
    pws_callable_attach(lane->early_hints, to);
    pws_input_attach(lane->input, to);
    return pws_client_socket_attach(lane->socket, to);
}

static int
make_templates(pws_lane *lane)
{
    unsigned count = lane->engine->listener_count;

    for (unsigned i = 0; i < count; i++) {
        Py_XSETREF(lane->templates[i],
                   pws_environ_template(lane, &lane->engine->listeners[i]));
        if (lane->templates[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

static int
make_objects(pws_lane *lane)
{
    pws_module *module = lane->module;

    Py_XSETREF(lane->start_response, pws_start_response_new(module));
    Py_XSETREF(lane->write, pws_write_new(module));
    Py_XSETREF(lane->early_hints, pws_early_hints_new(module));
    Py_XSETREF(lane->input, pws_input_new(module));
    Py_XSETREF(lane->socket, pws_client_socket_new(module));
    if (lane->start_response == NULL || lane->write == NULL ||
        lane->early_hints == NULL || lane->input == NULL || lane->socket == NULL) {
        return -1;
    }
    return make_templates(lane);
}

pws_lane *
pws_lane_new(const pws_lane_config *config, pws_lane_wait wait)
{
    pws_lane *lane = PyMem_Calloc(1, sizeof(*lane));

    if (lane == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    lane->config = config;
    lane->module = config->module;
    lane->engine = config->engine;
    lane->wait = wait;
    lane->templates =
        PyMem_Calloc(lane->engine->listener_count + 1, sizeof(PyObject *));
    if (lane->templates == NULL) {
        PyErr_NoMemory();
        pws_lane_free(lane);
        return NULL;
    }
    if (make_objects(lane) < 0) {
        pws_lane_free(lane);
        return NULL;
    }
    return lane;
}

void
pws_lane_free(pws_lane *lane)
{
    if (lane->templates != NULL) {
        for (unsigned i = 0; i < lane->engine->listener_count; i++) {
            Py_CLEAR(lane->templates[i]);
        }
        PyMem_Free(lane->templates);
    }
    Py_CLEAR(lane->start_response);
    Py_CLEAR(lane->write);
    Py_CLEAR(lane->early_hints);
    Py_CLEAR(lane->input);
    Py_CLEAR(lane->socket);
    Py_CLEAR(lane->status);
    Py_CLEAR(lane->headers);
    for (int i = 0; i < PWS_ADDRESS_CACHE; i++) {
        Py_CLEAR(lane->addresses[i].text);
    }
    PyMem_Free(lane);
}

void
pws_lane_begin(pws_lane *lane, pws_exchange *x)
{
    lane->x = x;
    (void)attach(lane, lane); /* only detaching runs Python */
}

/* Whether somebody but the lane and its templates holds one of the objects. */
static bool
app_kept_one(const pws_lane *lane)
{
    Py_ssize_t in_templates = 1 + (Py_ssize_t)lane->engine->listener_count;

    return Py_REFCNT(lane->start_response) > 1 || Py_REFCNT(lane->write) > 1 ||
           Py_REFCNT(lane->early_hints) > in_templates ||
           Py_REFCNT(lane->input) > in_templates ||
           Py_REFCNT(lane->socket) > in_templates;
}

int
pws_lane_end(pws_lane *lane)
{
    int rc = attach(lane, NULL);

    lane->x = NULL;
    Py_CLEAR(lane->status);
    Py_CLEAR(lane->headers);
    if (rc < 0) {
        PyErr_WriteUnraisable(lane->socket);
    }
    return app_kept_one(lane) ? make_objects(lane) : 0;
}
