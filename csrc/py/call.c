#include "py/call.h"

#include "base/escape.h"
#include "base/log.h"
#include "engine/io.h"
#include "py/environ.h"
#include "py/response.h"
#include "py/unlocked.h"

void
pws_call_log_exception(pws_lane *lane, const char *what)
{
    PyObject *type, *value, *traceback, *text, *result = NULL;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        (void)PyException_SetTraceback(value, traceback);
    }
    text = PyUnicode_DecodeUTF8(what, (Py_ssize_t)strlen(what), "backslashreplace");
    if (text != NULL && value != NULL) {
        result = PyObject_CallFunctionObjArgs(lane->config->log_exception, text, value,
                                              NULL);
    }
    if (result == NULL) {
        PyErr_WriteUnraisable(lane->config->log_exception);
    }
    Py_XDECREF(result);
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

/* A front end by uwsgi may have left the target out, and may have any bytes in it. */
const char *
pws_call_name_request(const pws_request *req, char name[PWS_CALL_NAME_ROOM])
{
    const pws_span whole[] = {req->target}, parts[] = {req->script_name, req->path};
    const pws_span *spans = req->target.len > 0 ? whole : parts;
    size_t count = req->target.len > 0 ? 1 : 2, n;

    n = pws_escape(name, 32, pws_request_slice(req, req->method), 0);
    name[n++] = ' ';
    for (size_t i = 0; i < count; i++) {
        n += pws_escape(name + n, PWS_CALL_NAME_ROOM - 1 - n,
                        pws_request_slice(req, spans[i]), 0);
    }
    name[n] = '\0';
    return name;
}

/* "Error handling request GET /path", as Gunicorn says it. */
static void
log_failure(pws_lane *lane)
{
    char name[PWS_CALL_NAME_ROOM], text[PWS_CALL_NAME_ROOM + 32];

    PyOS_snprintf(text, sizeof(text), "Error handling request %s",
                  pws_call_name_request(&lane->x->request, name));
    pws_call_log_exception(lane, text);
}

/* Whether the exception is only what a client did to its body, passed on by the app.
 * Then there is nothing to find in a traceback, and the client could have many. */
static bool
is_the_clients(const pws_exchange *x)
{
    return x->body_status != 0 && PyErr_ExceptionMatches(PyExc_OSError);
}

static void
log_client(const pws_exchange *x)
{
    char name[PWS_CALL_NAME_ROOM];

    PyErr_Clear();
    pws_log_limited(PWS_LOG_CUT, PWS_LOG_WARNING, "%s: %s",
                    pws_call_name_request(&x->request, name),
                    x->request.refusal != NULL ? x->request.refusal
                    : x->body_status == 408    ? "the client sends no more"
                                               : "the client has gone");
}

/* What the app gave before its failure does not wait for the log, which may be slow. */
static void
send_before_log(pws_lane *lane)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    if (pws_response_flush(lane) < 0) {
        PyErr_Clear(); /* the first one counts */
    }
    PyErr_Restore(type, value, traceback);
}

/* Whatever the app did wrong becomes a log entry and, when nothing was sent, a 500;
 * else the connection is cut, so that the client can tell. What the client did wrong
 * with a streamed body, and the app let through, is the client's. */
static void
fail(pws_lane *lane)
{
    pws_exchange *x = lane->x;
    int status = x->body_status != 0 ? x->body_status : 500;

    if (x->answer == PWS_ANSWER_STARTED) {
        send_before_log(lane);
    }
    if (lane->called_off) {
        PyErr_Clear();
        status = 503;
    }
    else if (is_the_clients(x)) {
        log_client(x);
    }
    else {
        log_failure(lane);
    }
    if (!pws_exchange_refuse(x, status) && x->answer == PWS_ANSWER_STARTED) {
        pws_exchange_cut(x);
    }
}

/* Returns 1 with a new reference to result.close, 0 when there is none, -1. */
static int
find_close(pws_lane *lane, PyObject *result, PyObject **close)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_GetOptionalAttr(result, PWS_NAME(lane->module, close), close);
#else
    *close = PyObject_GetAttr(result, PWS_NAME(lane->module, close));
    if (*close == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    return 1;
#endif
}

/* Call result.close() once; the client does not wait for it. */
static void
close_result(pws_lane *lane, PyObject *result)
{
    pws_hold *hold = &lane->engine->hold;
    PyObject *close = NULL, *done = NULL;
    int rc;

    if (PyList_CheckExact(result) || PyTuple_CheckExact(result)) {
        return; /* they have no close() */
    }
    rc = find_close(lane, result, &close);
    if (rc < 0) {
        log_failure(lane);
    }
    if (pws_response_let_go(lane, rc > 0) < 0) {
        log_failure(lane);
    }
    if (rc > 0) {
        done = PyObject_CallNoArgs(close);
    }
    Py_XDECREF(close);
    pws_hold_reclaim(hold);
    if (rc > 0 && done == NULL) {
        log_failure(lane);
    }
    Py_XDECREF(done);
}

/* Keep what the access log wants of the environ. */
static void
note_variables(pws_lane *lane, PyObject *env)
{
    const pws_access_format *format =
        pws_access_log_format(lane->engine->config->access_log);

    for (size_t i = 0; i < format->note_count; i++) {
        const pws_note *note = &format->notes[i];
        PyObject *key, *value, *text;

        if (note->kind != PWS_NOTE_VARIABLE) {
            continue;
        }
        key =
            PyUnicode_DecodeUTF8(note->name.at, (Py_ssize_t)note->name.len, "replace");
        value = key != NULL ? pws_dict_item(env, key) : NULL;
        text = value != NULL ? PyObject_Str(value) : NULL;
        if (text != NULL && PyUnicode_AsUTF8(text) != NULL) {
            pws_exchange_note(lane->x, i, pws_slice_of(PyUnicode_AsUTF8(text)));
        }
        PyErr_Clear(); /* the log prints "-" */
        Py_XDECREF(text);
        Py_XDECREF(value);
        Py_XDECREF(key);
    }
}

static PyObject *
or_none(PyObject *object)
{
    return object != NULL ? object : Py_None;
}

/* Tell the hook of the response; what goes wrong there does not change it. */
static void
call_after(pws_lane *lane, PyObject *request, PyObject *env)
{
    const pws_exchange *x = lane->x;
    bool ours = !pws_exchange_is_taken(x); /* else somebody else has answered */
    PyObject *chunked = ours && x->frame == PWS_FRAME_CHUNKED ? Py_True : Py_False;
    PyObject *closes = ours && x->keep ? Py_False : Py_True;
    PyObject *result = PyObject_CallFunction(
        lane->config->after_request, "OOOOKOO", or_none(request), env,
        or_none(lane->status), or_none(lane->headers),
        (unsigned long long)(ours ? x->body_sent : 0), chunked, closes);

    if (result == NULL) {
        log_failure(lane);
    }
    Py_XDECREF(result);
}

/* Send what the app returns for `env`. */
static void
answer(pws_lane *lane, PyObject *env)
{
    PyObject *args[3] = {NULL, env, lane->start_response}, *result;

    result = PyObject_Vectorcall(lane->config->app, args + 1,
                                 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (result == NULL) {
        fail(lane);
    }
    else if (lane->x->answer != PWS_ANSWER_DETACHED) {
        if (pws_response_send(lane, result) < 0) {
            fail(lane);
        }
    }
    if (result != NULL) {
        close_result(lane, result);
        Py_DECREF(result);
    }
}

static void
run(pws_lane *lane)
{
    PyObject *env = pws_environ_new(lane), *request = NULL;
    bool hooked = lane->config->before_request != NULL;

    if (env == NULL) {
        fail(lane);
        return;
    }
    if (hooked) {
        request = PyObject_CallOneArg(lane->config->before_request, env);
    }
    if (hooked && request == NULL) {
        fail(lane);
    }
    else {
        answer(lane, env);
    }
    if (lane->config->after_request != NULL) {
        if (pws_response_flush(lane) < 0) { /* the client does not wait for the hook */
            log_failure(lane);
        }
        call_after(lane, request, env);
    }
    Py_XDECREF(request);
    if (lane->engine->config->access_log != NULL && !pws_exchange_is_taken(lane->x)) {
        note_variables(lane, env);
    }
    Py_DECREF(env);
}

void
pws_call_app(pws_lane *lane, pws_exchange *x)
{
    PyObject *context = PyContext_Copy(lane->context);

    if (pws_lane_begin(lane, x) < 0 || context == NULL ||
        PyContext_Enter(context) < 0) {
        fail(lane);
    }
    else {
        run(lane);
        if (PyContext_Exit(context) < 0) {
            log_failure(lane);
        }
    }
    pws_lane_end(lane);
    Py_XDECREF(context);
}
