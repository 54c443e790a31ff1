#include "py/environ_target.h"

#include "proto/chars.h"
#include "proto/target.h"
#include "py/text.h"

/* Cut SCRIPT_NAME off the path: it names where the app is mounted. */
static int
cut_script_name(pws_lane *lane, PyObject *env, const pws_request *req, pws_slice *path)
{
    PyObject *text = lane->config->script_name;
    pws_slice name;

    if (req->script_name.len > 0 || req->path_is_cut) {
        name = pws_request_slice(req, req->script_name);
        if (pws_text_set(lane, env, PWS_NAME(lane->module, SCRIPT_NAME), name) < 0) {
            return -1;
        }
        if (req->path_is_cut) {
            return 0;
        }
    }
    else {
        name.at = (const char *)PyUnicode_1BYTE_DATA(text);
        name.len = (size_t)PyUnicode_GET_LENGTH(text);
    }
    if (path->len < name.len || memcmp(path->at, name.at, name.len) != 0) {
        PyErr_SetString(PyExc_ValueError,
                        "the request's path does not begin with SCRIPT_NAME");
        return -1;
    }
    path->at += name.len;
    path->len -= name.len;
    return 0;
}

/* A decoded path. A new reference. */
static PyObject *
decoded_text(pws_lane *lane, pws_slice path)
{
    PyObject *text;
    char small[512], *buffer = small;

    if (path.len > sizeof(small)) {
        buffer = PyMem_Malloc(path.len);
        if (buffer == NULL) {
            return PyErr_NoMemory();
        }
    }
    text = pws_text_new(lane->module,
                        (pws_slice){buffer, pws_percent_decode(buffer, path)});
    if (buffer != small) {
        PyMem_Free(buffer);
    }
    return text;
}

/* Write `s` to `dst` as a part of a target, with "%XX" where need be. Returns where it
 * ends. */
static char *
encode_part(char *dst, pws_slice s)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];

        if (pws_target_char[c] != 0 && c < 0x80 && c != '%' && c != '?') {
            *dst++ = (char)c;
        }
        else {
            *dst++ = '%';
            *dst++ = hex[c >> 4];
            *dst++ = hex[c & 15];
        }
    }
    return dst;
}

/* A target out of its parts, which a front end has sent without it. A new reference. */
static PyObject *
made_target(const pws_request *req)
{
    pws_slice query = pws_request_slice(req, req->query);
    size_t room = 3 * ((size_t)req->script_name.len + req->path.len) + query.len + 1;
    char *buffer = PyMem_Malloc(room), *end;
    PyObject *text;

    if (buffer == NULL) {
        return PyErr_NoMemory();
    }
    end = encode_part(buffer, pws_request_slice(req, req->script_name));
    end = encode_part(end, pws_request_slice(req, req->path));
    if (query.len > 0) {
        *end++ = '?';
        memcpy(end, query.at, query.len);
        end += query.len;
    }
    text = PyUnicode_DecodeLatin1(buffer, (Py_ssize_t)(end - buffer), NULL);
    PyMem_Free(buffer);
    return text;
}

int
pws_environ_set_target(pws_lane *lane, PyObject *env, const pws_request *req,
                       pws_target_there there)
{
    pws_module *module = lane->module;
    pws_slice path = pws_request_slice(req, req->path);
    PyObject *target = req->target.len > 0
                           ? pws_text_new(module, pws_request_slice(req, req->target))
                           : made_target(req);
    bool mounted = req->script_name.len > 0 || req->path_is_cut ||
                   PyUnicode_GET_LENGTH(lane->config->script_name) > 0;
    int rc = 0;

    if (target == NULL || PyDict_SetItem(env, PWS_NAME(module, RAW_URI), target) < 0 ||
        PyDict_SetItem(env, PWS_NAME(module, REQUEST_URI), target) < 0 ||
        (mounted && cut_script_name(lane, env, req, &path) < 0)) {
        Py_XDECREF(target);
        return -1;
    }
    if (there.path && !mounted && !req->path_escaped) {
        /* It is the same one. */
    }
    else if (path.len > 0 && path.len == req->target.len &&
             req->path.at == req->target.at && !req->path_escaped) {
        rc = PyDict_SetItem(env, PWS_NAME(module, PATH_INFO), target);
    }
    else if (path.len == 0 && req->form == PWS_TARGET_ABSOLUTE && !mounted) {
        rc = pws_text_set(lane, env, PWS_NAME(module, PATH_INFO), PWS_SLICE("/"));
    }
    else {
        rc = pws_text_set_taken(env, PWS_NAME(module, PATH_INFO),
                                req->path_escaped ? decoded_text(lane, path)
                                                  : pws_text_new(module, path));
    }
    Py_DECREF(target);
    if (rc == 0 && !there.query) {
        rc = pws_text_set(lane, env, PWS_NAME(module, QUERY_STRING),
                          pws_request_slice(req, req->query));
    }
    return rc;
}
