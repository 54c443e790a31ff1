#include "py/settings.h"

#include "proto/forwarded.h"
#include "py/log.h"

/* Read an integer attribute of at least `least`. Returns it, or -1 with an exception.
 */
static int64_t
read_integer(PyObject *config, const char *name, int64_t least)
{
    PyObject *value = PyObject_GetAttrString(config, name);
    int64_t n;

    if (value == NULL) {
        return -1;
    }
    n = PyLong_AsLongLong(value);
    Py_DECREF(value);
    if (n == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (n < least || n > INT64_MAX / 1000) {
        PyErr_Format(PyExc_ValueError, "%s: %lld is out of range", name, (long long)n);
        return -1;
    }
    return n;
}

/* A duration in seconds, as milliseconds. */
static int
read_seconds(PyObject *config, const char *name, int64_t *ms)
{
    PyObject *value = PyObject_GetAttrString(config, name);
    double seconds;

    if (value == NULL) {
        return -1;
    }
    seconds = PyFloat_AsDouble(value);
    Py_DECREF(value);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (!(seconds >= 0 && seconds <= 1e9)) {
        PyErr_Format(PyExc_ValueError, "%s: out of range", name);
        return -1;
    }
    *ms = (int64_t)(seconds * 1000);
    return 0;
}

static int
read_u32(PyObject *config, const char *name, int64_t least, uint32_t *value)
{
    int64_t n = read_integer(config, name, least);

    if (n < 0 || n > INT32_MAX) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "%s: %lld is too large", name, (long long)n);
        }
        return -1;
    }
    *value = (uint32_t)n;
    return 0;
}

static int
read_u64(PyObject *config, const char *name, uint64_t *value)
{
    int64_t n = read_integer(config, name, 0);

    *value = (uint64_t)n;
    return n < 0 ? -1 : 0;
}

static int
read_bool(PyObject *config, const char *name, bool *value)
{
    PyObject *object = PyObject_GetAttrString(config, name);
    int truth = object != NULL ? PyObject_IsTrue(object) : -1;

    Py_XDECREF(object);
    *value = truth > 0;
    return truth < 0 ? -1 : 0;
}

/* Keep `object` alive for as long as the settings are. */
static int
keep(pws_settings *settings, PyObject *object)
{
    return PyList_Append(settings->keep, object);
}

/* The UTF-8 text of a str attribute; empty for None. */
static int
read_text(pws_settings *settings, PyObject *config, const char *name, pws_slice *text)
{
    PyObject *value = PyObject_GetAttrString(config, name);
    Py_ssize_t len = 0;
    int rc = -1;

    *text = (pws_slice){NULL, 0};
    if (value == NULL) {
        return -1;
    }
    if (value == Py_None) {
        Py_DECREF(value);
        return 0;
    }
    text->at = PyUnicode_AsUTF8AndSize(value, &len);
    if (text->at != NULL) {
        text->len = (size_t)len;
        rc = keep(settings, value);
    }
    Py_DECREF(value);
    return rc;
}

/* A sequence attribute as a tuple that the settings keep: borrowed, or NULL. */
static PyObject *
read_items(pws_settings *settings, PyObject *config, const char *name)
{
    PyObject *value = PyObject_GetAttrString(config, name);
    PyObject *items = value != NULL ? PySequence_Tuple(value) : NULL;
    int rc = items != NULL ? keep(settings, items) : -1;

    Py_XDECREF(value);
    Py_XDECREF(items);
    return rc == 0 ? items : NULL;
}

static int
read_item_text(PyObject *item, pws_slice *text)
{
    Py_ssize_t len = 0;

    text->at = PyUnicode_AsUTF8AndSize(item, &len);
    text->len = (size_t)len;
    return text->at != NULL ? 0 : -1;
}

static int
read_forwarder_fields(pws_settings *settings, PyObject *config)
{
    pws_rules *rules = &settings->engine.rules;
    PyObject *items = read_items(settings, config, "forwarder_headers");
    Py_ssize_t n = items != NULL ? PyTuple_GET_SIZE(items) : 0;

    if (items == NULL) {
        return -1;
    }
    settings->forwarder_fields = PyMem_Calloc((size_t)n + 1, sizeof(pws_slice));
    if (settings->forwarder_fields == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        pws_slice *name = &settings->forwarder_fields[i];

        if (read_item_text(PyTuple_GET_ITEM(items, i), name) < 0) {
            return -1;
        }
        rules->forwarder_any =
            rules->forwarder_any || pws_slice_eq(*name, PWS_SLICE("*"));
    }
    rules->forwarder_fields = settings->forwarder_fields;
    rules->forwarder_count = (uint32_t)n;
    return 0;
}

/* (name in CGI spelling, value) pairs. */
static int
read_scheme_fields(pws_settings *settings, PyObject *config)
{
    pws_rules *rules = &settings->engine.rules;
    PyObject *items = read_items(settings, config, "scheme_fields");
    Py_ssize_t n = items != NULL ? PyTuple_GET_SIZE(items) : 0;

    if (items == NULL) {
        return -1;
    }
    settings->scheme_fields = PyMem_Calloc((size_t)n + 1, sizeof(pws_scheme_field));
    if (settings->scheme_fields == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *pair = PyTuple_GET_ITEM(items, i);

        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
            PyErr_SetString(PyExc_TypeError, "scheme_fields: expected pairs");
            return -1;
        }
        if (read_item_text(PyTuple_GET_ITEM(pair, 0),
                           &settings->scheme_fields[i].name) < 0 ||
            read_item_text(PyTuple_GET_ITEM(pair, 1),
                           &settings->scheme_fields[i].value) < 0) {
            return -1;
        }
    }
    rules->scheme_fields = settings->scheme_fields;
    rules->scheme_count = (uint32_t)n;
    rules->scheme_ids = pws_forwarded_scheme_ids(rules);
    return 0;
}

typedef struct {
    pws_network *networks; /* of PyMem_Malloc */
    uint32_t count;
    bool all; /* "*" */
} network_list;

/* Addresses and networks. What was read is the caller's also after a failure. */
static int
read_networks(pws_settings *settings, PyObject *config, const char *name,
              network_list *list)
{
    PyObject *items = read_items(settings, config, name);
    Py_ssize_t n = items != NULL ? PyTuple_GET_SIZE(items) : 0;

    if (items == NULL) {
        return -1;
    }
    list->networks = PyMem_Calloc((size_t)n + 1, sizeof(pws_network));
    if (list->networks == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        const char *text = PyUnicode_AsUTF8(PyTuple_GET_ITEM(items, i));

        if (text == NULL) {
            return -1;
        }
        if (strcmp(text, "*") == 0) {
            list->all = true;
        }
        else if (pws_network_parse(&list->networks[list->count], text) == 0) {
            list->count++;
        }
        else {
            PyErr_Format(PyExc_ValueError, "%s: '%s' is no address and no network",
                         name, text);
            return -1;
        }
    }
    return 0;
}

/* Whose word counts, and who may speak uwsgi. */
static int
read_peers(pws_settings *settings, PyObject *config)
{
    pws_engine_config *e = &settings->engine;
    network_list trusted = {0}, admitted = {0};
    int rc = read_networks(settings, config, "forwarded_allow_ips", &trusted);

    if (rc == 0) {
        rc = read_networks(settings, config, "uwsgi_allow_ips", &admitted);
    }
    e->trusted = settings->trusted = trusted.networks;
    e->trusted_count = trusted.count;
    e->trust_all = trusted.all;
    e->admitted = settings->admitted = admitted.networks;
    e->admitted_count = admitted.count;
    e->admit_all = admitted.all;
    return rc;
}

static int
read_header_map(pws_settings *settings, PyObject *config)
{
    pws_slice text;
    pws_header_map *map = &settings->engine.rules.header_map;

    if (read_text(settings, config, "header_map", &text) < 0) {
        return -1;
    }
    *map = pws_slice_eq(text, PWS_SLICE("refuse"))      ? PWS_HEADER_MAP_REFUSE
           : pws_slice_eq(text, PWS_SLICE("dangerous")) ? PWS_HEADER_MAP_DANGEROUS
                                                        : PWS_HEADER_MAP_DROP;
    return 0;
}

static int
read_limits(pws_settings *settings, PyObject *config)
{
    pws_engine_config *e = &settings->engine;

    e->rules.head_max = PWS_HEAD_MAX;
    if (read_u32(config, "limit_request_line", 1, &e->rules.line_max) < 0 ||
        read_u32(config, "limit_request_fields", 1, &e->rules.fields_max) < 0 ||
        read_u32(config, "limit_request_field_size", 1, &e->rules.field_size_max) < 0 ||
        read_u32(config, "worker_connections", 1, &e->worker_connections) < 0 ||
        read_u64(config, "limit_request_body", &e->rules.body_max) < 0 ||
        read_u64(config, "body_buffer_size", &e->body_buffer_size) < 0 ||
        read_u64(config, "response_spool_limit", &e->response_spool_limit) < 0) {
        return -1;
    }
    if (read_seconds(config, "header_timeout", &e->header_timeout_ms) < 0 ||
        read_seconds(config, "body_timeout", &e->body_timeout_ms) < 0 ||
        read_seconds(config, "send_timeout", &e->send_timeout_ms) < 0) {
        return -1;
    }
    if (read_seconds(config, "request_timeout", &e->request_timeout_ms) < 0 ||
        read_seconds(config, "slow_request_timeout", &e->slow_request_ms) < 0) {
        return -1;
    }
    return read_seconds(config, "keepalive", &e->keepalive_ms);
}

/* The memory of the access log's lines, when somebody else is to have it too. */
static int
share_access_log(pws_settings *settings, PyObject *config)
{
    PyObject *memory = PyObject_GetAttrString(config, "access_log_memory");
    int rc = memory != NULL ? 0 : -1;

    if (memory != NULL && memory != Py_None) {
        rc = pws_log_ring_memory(memory, &settings->log_memory);
        if (rc == 0) {
            pws_access_log_share(settings->engine.access_log, settings->log_memory.buf);
        }
    }
    Py_XDECREF(memory);
    return rc;
}

/* The access log has a duplicate of the descriptor; -1: no log. */
static int
read_access_log(pws_settings *settings, PyObject *config)
{
    int64_t fd = read_integer(config, "access_log_fd", -1);
    PyObject *format;

    if (fd < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    format = PyObject_GetAttrString(config, "access_log_format");
    if (format != NULL && PyUnicode_AsUTF8(format) != NULL) {
        settings->engine.access_log =
            pws_access_log_new(PyUnicode_AsUTF8(format), (int)fd);
        if (settings->engine.access_log == NULL) {
            PyErr_SetFromErrno(PyExc_OSError);
        }
    }
    Py_XDECREF(format);
    return settings->engine.access_log != NULL ? share_access_log(settings, config)
                                               : -1;
}

int
pws_settings_read(pws_settings *settings, PyObject *config)
{
    pws_engine_config *e = &settings->engine;
    pws_slice spool;

    memset(settings, 0, sizeof(*settings));
    settings->keep = PyList_New(0);
    if (settings->keep == NULL || read_limits(settings, config) < 0 ||
        read_bool(config, "request_buffering", &e->request_buffering) < 0 ||
        read_bool(config, "sendfile", &settings->sendfile) < 0 ||
        read_seconds(config, "queue_timeout", &e->queue_timeout_ms) < 0 ||
        read_bool(config, "hosted", &e->hosted) < 0 ||
        read_u32(config, "threads", 1, &settings->threads) < 0 ||
        read_text(settings, config, "server_header", &e->server) < 0 ||
        read_text(settings, config, "spool_dir", &spool) < 0 ||
        read_header_map(settings, config) < 0 ||
        read_forwarder_fields(settings, config) < 0 ||
        read_scheme_fields(settings, config) < 0) {
        return -1;
    }
    e->spool_dir = spool.at;
    if (read_peers(settings, config) < 0) {
        return -1;
    }
    return read_access_log(settings, config);
}

void
pws_settings_clear(pws_settings *settings)
{
    if (settings->engine.access_log != NULL) {
        pws_access_log_free(settings->engine.access_log);
    }
    if (settings->log_memory.obj != NULL) {
        PyBuffer_Release(&settings->log_memory);
    }
    PyMem_Free(settings->forwarder_fields);
    PyMem_Free(settings->scheme_fields);
    PyMem_Free(settings->trusted);
    PyMem_Free(settings->admitted);
    Py_CLEAR(settings->keep);
    memset(settings, 0, sizeof(*settings));
}
