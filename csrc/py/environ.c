#include "py/environ.h"

#include <stdio.h>

#include "py/environ_memo.h"
#include "py/environ_target.h"
#include "py/file_wrapper.h"
#include "py/text.h"

/* So many more make the template's dict grow, which has 21 keys or a few less. */
#define SPARE_KEYS 5

/* As many as malloc keeps of a size for a thread (glibc). */
#define READY 7

/* SERVER_NAME and SERVER_PORT are where we listen, as Gunicorn has it. */
static int
set_listener(const pws_lane *lane, PyObject *env, const pws_listener *listener)
{
    pws_module *module = lane->module;
    char host[PWS_HOST_ROOM];
    pws_peer own;

    if (pws_listener_is_unix(listener)) {
        /* A Unix peer has no address; name and port come from each request's Host. */
        return PyDict_SetItem(env, PWS_NAME(module, REMOTE_ADDR),
                              PWS_NAME(module, empty));
    }
    memcpy(&own, &listener->address.sa, sizeof(own));
    pws_peer_host(&own, host);
    if (pws_text_set_taken(env, PWS_NAME(module, SERVER_NAME),
                           PyUnicode_FromString(host)) < 0) {
        return -1;
    }
    return pws_text_set_taken(env, PWS_NAME(module, SERVER_PORT),
                              PyUnicode_FromFormat("%u", pws_peer_port(&own)));
}

/* Let the dict have room for the fields of a request: copies keep it, so that nothing
 * is moved while they are filled. A dict grows when it is full, to what three times its
 * size would need, and never shrinks by deletion. */
static int
make_roomy(PyObject *env)
{
    char name[8];

    for (int i = 0; i < SPARE_KEYS; i++) {
        PyOS_snprintf(name, sizeof(name), "%d", i);
        if (PyDict_SetItemString(env, name, Py_None) < 0) {
            return -1;
        }
    }
    for (int i = 0; i < SPARE_KEYS; i++) {
        PyOS_snprintf(name, sizeof(name), "%d", i);
        if (PyDict_DelItemString(env, name) < 0) {
            return -1;
        }
    }
    return 0;
}

void
pws_environ_have_ready(PyObject *template)
{
    PyObject *copies[READY];

    for (int i = 0; i < READY; i++) {
        copies[i] = PyDict_Copy(template);
    }
    for (int i = 0; i < READY; i++) {
        Py_XDECREF(copies[i]);
    }
    PyErr_Clear();
}

PyObject *
pws_environ_template(const pws_lane *lane, const pws_listener *listener)
{
    pws_module *module = lane->module;
    const pws_lane_config *config = lane->config;
    const struct {
        PyObject *key, *value;
    } constants[] = {
        {PWS_NAME(module, REQUEST_METHOD), PWS_NAME(module, GET)},
        {PWS_NAME(module, QUERY_STRING), PWS_NAME(module, empty)},
        {PWS_NAME(module, SCRIPT_NAME), config->script_name},
        {PWS_NAME(module, SERVER_PROTOCOL), PWS_NAME(module, http_1_1)},
        {PWS_NAME(module, SERVER_SOFTWARE), config->software},
        {PWS_NAME(module, wsgi_early_hints), lane->early_hints},
        {PWS_NAME(module, wsgi_errors), config->errors},
        {PWS_NAME(module, wsgi_file_wrapper), (PyObject *)module->file_wrapper_type},
        {PWS_NAME(module, wsgi_input), lane->input},
        {PWS_NAME(module, wsgi_input_terminated), Py_True},
        {PWS_NAME(module, wsgi_multiprocess),
         config->multiprocess ? Py_True : Py_False},
        {PWS_NAME(module, wsgi_multithread), config->multithread ? Py_True : Py_False},
        {PWS_NAME(module, wsgi_run_once), Py_False},
        {PWS_NAME(module, wsgi_url_scheme), PWS_NAME(module, http)},
        {PWS_NAME(module, gunicorn_socket), lane->socket},
        /* Set with each request: */
        {PWS_NAME(module, RAW_URI), PWS_NAME(module, empty)},
        {PWS_NAME(module, REQUEST_URI), PWS_NAME(module, empty)},
        {PWS_NAME(module, PATH_INFO), PWS_NAME(module, empty)},
    };
    PyObject *env = PyDict_New();

    if (env == NULL ||
        pws_text_set_taken(env, PWS_NAME(module, wsgi_version),
                           Py_BuildValue("(ii)", 1, 0)) < 0 ||
        set_listener(lane, env, listener) < 0) {
        Py_XDECREF(env);
        return NULL;
    }
    for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
        if (PyDict_SetItem(env, constants[i].key, constants[i].value) < 0) {
            Py_DECREF(env);
            return NULL;
        }
    }
    if (make_roomy(env) < 0) {
        Py_CLEAR(env);
    }
    return env;
}

/* ---- This request ---- */

static PyObject *
method_text(pws_lane *lane, pws_slice method)
{
    static const pws_name_id common[] = {PWS_N_GET,    PWS_N_POST,  PWS_N_HEAD,
                                         PWS_N_PUT,    PWS_N_PATCH, PWS_N_DELETE,
                                         PWS_N_OPTIONS};

    for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++) {
        PyObject *name = lane->module->names[common[i]];

        if ((size_t)PyUnicode_GET_LENGTH(name) == method.len &&
            memcmp(PyUnicode_1BYTE_DATA(name), method.at, method.len) == 0) {
            Py_INCREF(name);
            return name;
        }
    }
    return pws_text_new(lane->module, method);
}

static int
set_method(pws_lane *lane, PyObject *env, const pws_request *req)
{
    pws_slice method = pws_request_slice(req, req->method);

    if (pws_slice_eq(method, PWS_SLICE("GET"))) {
        return 0; /* as in the template */
    }
    return pws_text_set_taken(env, PWS_NAME(lane->module, REQUEST_METHOD),
                              method_text(lane, method));
}

/* The name behind "HTTP_", unless it is whole. A new reference. */
static PyObject *
make_key(pws_slice name, bool whole)
{
    size_t prefix = whole ? 0 : 5;
    PyObject *key = PyUnicode_New((Py_ssize_t)(name.len + prefix), 127);

    if (key != NULL) {
        memcpy(PyUnicode_1BYTE_DATA(key), "HTTP_", prefix);
        memcpy(PyUnicode_1BYTE_DATA(key) + prefix, name.at, name.len);
    }
    return key;
}

/* The key of a name that is not known by number; `whole`: nothing stands in front of
 * it. A new reference. */
static PyObject *
key_of(pws_environ_memos *memos, pws_slice name, bool whole)
{
    pws_cached_key *cached;
    unsigned hash = (unsigned)name.len + whole;
    PyObject *key;

    if (name.len > PWS_KEY_MAX) {
        return make_key(name, whole);
    }
    for (size_t i = 0; i < name.len; i++) {
        hash = hash * 31 + (unsigned char)name.at[i];
    }
    cached = &memos->keys[hash % PWS_KEY_CACHE];
    if (cached->key != NULL && cached->len == name.len && cached->whole == whole &&
        memcmp(cached->name, name.at, name.len) == 0) {
        Py_INCREF(cached->key);
        return cached->key;
    }
    key = make_key(name, whole);
    if (key != NULL) {
        Py_INCREF(key);
        Py_XSETREF(cached->key, key);
        cached->len = (uint8_t)name.len;
        cached->whole = whole;
        memcpy(cached->name, name.at, name.len);
    }
    return key;
}

/* Set a field that may be there already: values are joined by a comma, as Gunicorn
 * does. */
static int
set_or_join(PyObject *env, PyObject *key, PyObject *value)
{
    PyObject *there = PyDict_GetItemWithError(env, key), *joined;

    if (there == NULL) {
        return PyErr_Occurred() ? -1 : PyDict_SetItem(env, key, value);
    }
    joined = PyUnicode_FromFormat("%U,%U", there, value);
    return pws_text_set_taken(env, key, joined);
}

/* The key of a field that is known by number. Borrowed. */
static PyObject *
known_key(pws_module *module, const pws_field *field)
{
    return field->id == PWS_FIELD_CONTENT_TYPE     ? PWS_NAME(module, CONTENT_TYPE)
           : field->id == PWS_FIELD_CONTENT_LENGTH ? PWS_NAME(module, CONTENT_LENGTH)
                                                   : module->field_keys[field->id];
}

/* A field or a variable of a front end: the last one counts. */
static int
set_variable(pws_lane *lane, PyObject *env, const pws_request *req,
             const pws_field *field)
{
    pws_slice value = pws_request_slice(req, field->value);
    PyObject *key;
    int rc;

    if (field->id != PWS_FIELD_UNKNOWN) {
        return pws_text_set(lane, env, known_key(lane->module, field), value);
    }
    key = key_of(lane->memos, pws_request_slice(req, field->name),
                 (field->flags & PWS_FIELD_VARIABLE) != 0);
    rc = key != NULL ? pws_text_set(lane, env, key, value) : -1;
    Py_XDECREF(key);
    return rc;
}

static int
set_field(pws_lane *lane, PyObject *env, const pws_request *req, const pws_field *field)
{
    PyObject *value, *key;
    int rc;

    if ((field->flags & (PWS_FIELD_DROPPED | PWS_FIELD_REPLACES)) != 0) {
        return (field->flags & PWS_FIELD_DROPPED) != 0
                   ? 0
                   : set_variable(lane, env, req, field);
    }
    value = pws_text_of_field(lane, field->id, pws_request_slice(req, field->value));
    if (value == NULL) {
        return -1;
    }
    if (field->id == PWS_FIELD_UNKNOWN) {
        key = key_of(lane->memos, pws_request_slice(req, field->name), false);
        rc = key != NULL ? set_or_join(env, key, value) : -1;
        Py_XDECREF(key);
    }
    else {
        key = known_key(lane->module, field);
        rc = (req->repeated >> field->id & 1) != 0 || req->has_underscores
                 ? set_or_join(env, key, value)
                 : PyDict_SetItem(env, key, value);
    }
    Py_DECREF(value);
    return rc;
}

static bool
same_host(const pws_peer *a, const pws_peer *b)
{
    if (a->any.sa_family != b->any.sa_family) {
        return false;
    }
    return a->any.sa_family == AF_INET ? a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr
                                       : memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr,
                                                sizeof(a->v6.sin6_addr)) == 0;
}

/* Out of line for the sake of the stack below an app call: see regular_size() in
 * file_wrapper.c. */
__attribute__((noinline)) static PyObject *
new_address_text(const pws_peer *peer)
{
    char host[PWS_HOST_ROOM];

    pws_peer_host(peer, host);
    return PyUnicode_FromString(host);
}

/* The client's address as text, borrowed from the cache. */
static PyObject *
address_text(pws_lane *lane, const pws_peer *peer)
{
    const unsigned char *bytes = (const unsigned char *)&peer->v4.sin_addr;
    unsigned slot = peer->any.sa_family == AF_INET
                        ? (unsigned)(bytes[2] * 7 + bytes[3])
                        : (unsigned)peer->v6.sin6_addr.s6_addr[15];
    PyObject *text;

    slot %= PWS_ADDRESS_CACHE;
    if (lane->addresses[slot].text != NULL &&
        same_host(&lane->addresses[slot].peer, peer)) {
        return lane->addresses[slot].text;
    }
    text = new_address_text(peer);
    if (text != NULL) {
        lane->addresses[slot].peer = *peer;
        Py_XSETREF(lane->addresses[slot].text, text);
    }
    return text;
}

/* A Unix listener has no name of its own: the client's Host names the server. */
static int
set_name_from_host(pws_lane *lane, PyObject *env, const pws_request *req,
                   const pws_listener *listener)
{
    pws_module *module = lane->module;
    pws_slice host = {"", 0}, port = {"", 0};
    const char *colon;

    if (req->authority.len > 0) {
        host = pws_request_slice(req, req->authority);
    }
    else if (pws_request_has(req, PWS_FIELD_HOST)) {
        host = pws_request_value(req, PWS_FIELD_HOST);
    }
    if (host.len == 0) {
        host = pws_slice_of(listener->address.sa.local.sun_path);
    }
    else {
        colon = memrchr(host.at, ':', host.len);
        port = req->https ? PWS_SLICE("443") : PWS_SLICE("80");
        if (colon != NULL &&
            memchr(colon, ']', (size_t)(host.at + host.len - colon)) == NULL) {
            port = (pws_slice){colon + 1, (size_t)(host.at + host.len - colon - 1)};
            host.len = (size_t)(colon - host.at);
        }
    }
    if (pws_text_set(lane, env, PWS_NAME(module, SERVER_NAME), host) < 0) {
        return -1;
    }
    return pws_text_set(lane, env, PWS_NAME(module, SERVER_PORT), port);
}

static int
set_peer(pws_lane *lane, PyObject *env, const pws_request *req, const pws_conn *c)
{
    pws_module *module = lane->module;
    PyObject *address;

    if (c->peer.any.sa_family != AF_INET && c->peer.any.sa_family != AF_INET6) {
        return req->has_server ? 0 : set_name_from_host(lane, env, req, c->listener);
    }
    if (req->has_client) {
        return 0; /* among the fields; the peer is only the front end */
    }
    address = address_text(lane, &c->peer);
    if (address == NULL ||
        PyDict_SetItem(env, PWS_NAME(module, REMOTE_ADDR), address) < 0) {
        return -1;
    }
    return pws_text_set_taken(env, PWS_NAME(module, REMOTE_PORT),
                              pws_text_of_number(pws_peer_port(&c->peer)));
}

/* All but the target, over the template. */
static int
set_head(pws_lane *lane, PyObject *env, const pws_request *req, const pws_conn *c)
{
    pws_module *module = lane->module;

    if (set_method(lane, env, req) < 0 || set_peer(lane, env, req, c) < 0) {
        return -1;
    }
    for (uint32_t i = 0; i < req->field_count; i++) {
        if (set_field(lane, env, req, &req->fields[i]) < 0) {
            return -1;
        }
    }
    if (req->authority.len > 0 &&
        pws_text_set(lane, env, PWS_NAME(module, HTTP_HOST),
                     pws_request_slice(req, req->authority)) < 0) {
        return -1;
    }
    if (req->minor == 0 && req->protocol.len == 0 &&
        PyDict_SetItem(env, PWS_NAME(module, SERVER_PROTOCOL),
                       PWS_NAME(module, http_1_0)) < 0) {
        return -1;
    }
    return req->https ? PyDict_SetItem(env, PWS_NAME(module, wsgi_url_scheme),
                                       PWS_NAME(module, https))
                      : 0;
}

/* The fields that are not as they were, over the environ of those that are. */
static int
set_changed(pws_lane *lane, PyObject *env, const pws_request *req)
{
    for (uint32_t left = req->lines_changed; left != 0; left &= left - 1) {
        const pws_field *field = &req->fields[__builtin_ctz(left)];

        if (pws_text_set(lane, env, known_key(lane->module, field),
                         pws_request_slice(req, field->value)) < 0) {
            return -1;
        }
    }
    return 0;
}

int
pws_environ_set_own(const pws_lane *lane, PyObject *env)
{
    const pws_module *module = lane->module;

    if (PyDict_SetItem(env, PWS_NAME(module, wsgi_input), lane->input) < 0 ||
        PyDict_SetItem(env, PWS_NAME(module, wsgi_early_hints), lane->early_hints) <
            0) {
        return -1;
    }
    return PyDict_SetItem(env, PWS_NAME(module, gunicorn_socket), lane->socket);
}

/* An environ with all but the target, over the template. */
static PyObject *
begin_anew(pws_lane *lane, const pws_request *req, const pws_conn *c)
{
    const pws_lane *from = lane->model != NULL ? lane->model : lane;
    PyObject *env = PyDict_Copy(from->templates[c->listener->index]);

    if (env != NULL && ((from != lane && pws_environ_set_own(lane, env) < 0) ||
                        set_head(lane, env, req, c) < 0)) {
        Py_CLEAR(env);
    }
    return env;
}

/* An environ that begins with a kept one. */
static PyObject *
begin_with(pws_lane *lane, const pws_environ_memo *memo, const pws_request *req)
{
    PyObject *kept = memo->environ, *env;
    bool own = pws_environ_memo_is_of(memo, lane);

    Py_INCREF(kept); /* the memo may have another one in the end: see environ_memo.h */
    env = PyDict_Copy(kept);
    Py_DECREF(kept);
    if (env != NULL && ((!own && pws_environ_set_own(lane, env) < 0) ||
                        set_changed(lane, env, req) < 0)) {
        Py_CLEAR(env);
    }
    return env;
}

PyObject *
pws_environ_new(pws_lane *lane)
{
    const pws_conn *c = lane->x->conn;
    const pws_request *req = &lane->x->request;
    bool fits = pws_environ_memo_fits(req), found;
    pws_target_there there = {.query = req->query.len == 0}; /* in the template */
    const pws_environ_memo *memo =
        fits ? pws_environ_memo_find(lane->memos, req) : NULL;
    PyObject *env;

    found = memo != NULL;
    if (found) {
        there = pws_environ_memo_target(memo, req);
    }
    env = found ? begin_with(lane, memo, req) : begin_anew(lane, req, c);
    if (env != NULL && !there.whole &&
        pws_environ_set_target(lane, env, req, there) < 0) {
        Py_CLEAR(env);
    }
    if (env != NULL && fits && !found && req->lines_changed == 0) {
        pws_environ_memo_keep(lane, req, env);
    }
    return env;
}
