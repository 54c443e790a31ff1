#include "py/response.h"

#include "base/log.h"
#include "engine/io.h"
#include "py/file_wrapper.h"
#include "py/unlocked.h"

/* Headers of a response that need no memory of their own. */
#define SMALL_COUNT 32

/* Bytes to send beyond which the GIL is let go of. */
#define SEND_WITHOUT_GIL (256 * 1024)

/* What of a longer object is added at a time when there is no room for it. */
#define PIECE ((size_t)32 * 1024)

/* What is not as usual. */
static int
read_unusual_text(PyObject *text, const char *what, pws_slice *slice)
{
    Py_ssize_t len;

    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "%s is %s, not str", what,
                     Py_TYPE(text)->tp_name);
        return -1;
    }
    len = PyUnicode_GetLength(text); /* the function: it makes old strings ready */
    if (len < 0) {
        return -1;
    }
    if (PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND) {
        PyErr_Format(PyExc_ValueError, "%s has characters beyond Latin-1: %R", what,
                     text);
        return -1;
    }
    slice->at = (const char *)PyUnicode_1BYTE_DATA(text);
    slice->len = (size_t)len;
    return 0;
}

/* The Latin-1 bytes of a str, borrowed from it. Returns 0 or -1 with an exception that
 * names `what`. */
static inline int
read_text(PyObject *text, const char *what, pws_slice *slice)
{
    if (PyUnicode_CheckExact(text) && PyUnicode_IS_COMPACT_ASCII(text)) {
        slice->at = (const char *)((PyASCIIObject *)text + 1); /* of compact ASCII */
        slice->len = (size_t)PyUnicode_GET_LENGTH(text);
        return 0;
    }
    return read_unusual_text(text, what, slice);
}

static int
read_header(PyObject *pair, pws_header *header)
{
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_Format(PyExc_TypeError,
                     "a response header is not a (name, value) tuple: %R", pair);
        return -1;
    }
    if (read_text(PyTuple_GET_ITEM(pair, 0), "a response header's name",
                  &header->name) < 0) {
        return -1;
    }
    return read_text(PyTuple_GET_ITEM(pair, 1), "a response header's value",
                     &header->value);
}

pws_header *
pws_headers_read(PyObject *headers, pws_header *small, size_t small_room, size_t *count)
{
    pws_header *array = small;
    Py_ssize_t n;

    if (!PyList_Check(headers) && !PyTuple_Check(headers)) {
        PyErr_Format(PyExc_TypeError, "response headers are %s, not list",
                     Py_TYPE(headers)->tp_name);
        return NULL;
    }
    n = PySequence_Fast_GET_SIZE(headers);
    if ((size_t)n > small_room) {
        array = PyMem_New(pws_header, (size_t)n);
        if (array == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (read_header(PySequence_Fast_GET_ITEM(headers, i), &array[i]) < 0) {
            if (array != small) {
                PyMem_Free(array);
            }
            return NULL;
        }
    }
    *count = (size_t)n;
    return array;
}

/* `status` and `fields` are what start_response was given. */
static int
start(pws_lane *lane, PyObject *status_text, PyObject *fields, uint64_t known_length)
{
    pws_header small[SMALL_COUNT], *headers;
    pws_slice status;
    const char *why;
    size_t count;
    int rc;

    if (read_text(status_text, "the response's status", &status) < 0) {
        return -1;
    }
    headers = pws_headers_read(fields, small, SMALL_COUNT, &count);
    if (headers == NULL) {
        return -1;
    }
    rc = pws_exchange_start(lane->x, status, headers, count, known_length, &why);
    if (rc < 0 && why != NULL) {
        PyErr_Format(PyExc_ValueError, "%s in the response %R %R", why, status_text,
                     fields);
    }
    if (headers != small) {
        PyMem_Free(headers);
    }
    return rc < 0 && why != NULL ? -1 : 0;
}

int
pws_response_start(pws_lane *lane, uint64_t known_length)
{
    PyObject *status, *headers;
    int rc;

    Py_BEGIN_CRITICAL_SECTION(lane->start_response);
    status = Py_XNewRef(lane->status);
    headers = Py_XNewRef(lane->headers);
    Py_END_CRITICAL_SECTION();
    if (status == NULL) {
        PyErr_SetString(PyExc_AssertionError,
                        "the app has not called start_response before its first byte");
        return -1;
    }
    rc = start(lane, status, headers, known_length);
    Py_DECREF(status);
    Py_DECREF(headers);
    return rc;
}

/* Send what the client takes, without the GIL when it is much. Another thread may wait
 * for it to take something, or be about to, and there will be no event for that when
 * nothing is left. */
static void
flush(pws_lane *lane)
{
    if (pws_exchange_pending(lane->x) > SEND_WITHOUT_GIL) {
        Py_BEGIN_ALLOW_THREADS(void)
        pws_exchange_flush(lane->x);
        Py_END_ALLOW_THREADS
    }
    else {
        (void)pws_exchange_flush(lane->x);
    }
    if (atomic_load_explicit(&lane->waiters, memory_order_relaxed) > 0 &&
        pws_exchange_pending(lane->x) == 0) {
        atomic_fetch_add(&lane->x->emptied, 1);
        lane->rouse(lane);
    }
}

/* The same before the app goes on: others send the rest meanwhile. */
static void
flush_and_lend(pws_lane *lane)
{
    flush(lane);
    pws_exchange_lend(lane->x);
}

/* There is no room for more before the client has read. Returns 0 or -1 with an
 * exception. */
static int
wait_for_client(pws_lane *lane)
{
    pws_exchange *x = lane->x;
    uint64_t had;
    int rc;

    pws_exchange_reclaim(x);
    had = x->sent;
    flush(lane);
    if (x->gone || x->sent > had) {
        return 0;
    }
    rc = lane->wait(lane, PWS_WRITABLE, lane->engine->config->send_timeout_ms);
    pws_hold_reclaim(&lane->engine->hold); /* another thread may have been inside */
    if (rc == 0) {
        x->gone = true; /* send_timeout: the client does not read */
        pws_exchange_cut(x);
    }
    return rc < 0 ? -1 : 0;
}

/* Add body bytes. What has no room as a whole goes in pieces that fit into an empty
 * block, so that the app goes on when its client has read so much. */
static int
add_bytes(pws_lane *lane, PyObject *bytes)
{
    pws_exchange *x = lane->x;
    const char *data = PyBytes_AS_STRING(bytes);
    const size_t len = (size_t)PyBytes_GET_SIZE(bytes);
    size_t left = len, step = len;

    while (left > 0) {
        size_t n = step < left ? step : left;
        int rc = pws_exchange_write(x, data, n, n == len ? bytes : NULL);

        switch (rc) {
        case 1:
            Py_INCREF(bytes); /* comes back by pws_engine_released */
            break;
        case 0:
            break;
        case PWS_IO_AGAIN:
            if (n > PIECE) {
                step = PIECE;
            }
            else if (wait_for_client(lane) < 0) {
                return -1;
            }
            continue;
        default:
            PyErr_NoMemory();
            return -1;
        }
        data += n;
        left -= n;
    }
    return 0;
}

static int
check_bytes(PyObject *item)
{
    if (!PyBytes_Check(item)) {
        PyErr_Format(PyExc_TypeError, "the app's response body has %s, not bytes",
                     Py_TYPE(item)->tp_name);
        return -1;
    }
    return 0;
}

/* The thread that runs the request goes into it, like others into its objects. Returns
 * 0 or -1 with an exception. */
static int
enter(pws_lane *lane)
{
    pws_lane_link link = lane;

    return pws_lane_enter(lane->start_response, &link, PyExc_RuntimeError,
                          "the request has ended") != NULL
               ? 0
               : -1;
}

/* From inside. */
static void
flush_for_good(pws_lane *lane)
{
    flush(lane);
    if (pws_exchange_pending(lane->x) > 0) {
        (void)pws_exchange_own_files(lane->x);
    }
}

static int
flush_once(pws_lane *lane, bool lends)
{
    if (enter(lane) < 0) {
        return -1;
    }
    flush_for_good(lane);
    if (lends) {
        pws_exchange_lend(lane->x);
    }
    pws_lane_leave(lane);
    return 0;
}

int
pws_response_flush(pws_lane *lane)
{
    return flush_once(lane, true);
}

int
pws_response_let_go(pws_lane *lane, bool lends)
{
    if (enter(lane) < 0) {
        return -1;
    }
    if (!pws_exchange_may_wait(lane->x)) {
        flush_for_good(lane);
        if (lends) {
            pws_exchange_lend(lane->x);
        }
    }
    else if (lends) {
        pws_hold_lend(&lane->engine->hold, lane->x);
    }
    pws_lane_leave(lane);
    return 0;
}

/* Write, and send or lend, from inside. */
static int
write_and_flush(pws_lane *lane, PyObject *bytes, bool may_wait)
{
    pws_exchange *x = lane->x;
    pws_hold *hold = &lane->engine->hold;
    const bool first = x->answer == PWS_ANSWER_NONE;

    if ((first && pws_response_start(lane, PWS_LENGTH_UNKNOWN) < 0) ||
        add_bytes(lane, bytes) < 0) {
        pws_exchange_lend(x); /* the app may go on all the same */
        return -1;
    }
    if (may_wait && (pws_exchange_may_wait(x) || pws_hold_gather(hold, x, first))) {
        pws_hold_lend(hold, x);
        return 0;
    }
    flush_and_lend(lane);
    if (may_wait) {
        pws_hold_note_piece_sent(hold);
    }
    return 0;
}

/* `may_wait`: what is there then may be sent later, since nobody but us goes on. It is
 * lent from inside, and taken back there before anything is added, so that no other
 * thread of the app is at the response meanwhile. */
static int
write_item(PyObject *object, pws_lane_link *link, PyObject *bytes, bool may_wait)
{
    pws_engine *e;
    pws_lane *lane;
    int rc;

    if (check_bytes(bytes) < 0) {
        return -1;
    }
    if (PyBytes_GET_SIZE(bytes) == 0) {
        return 0;
    }
    lane = pws_lane_enter(object, link, PyExc_RuntimeError,
                          "write() called after its request has ended");
    if (lane == NULL) {
        return -1;
    }
    pws_hold_reclaim(&lane->engine->hold);
    if (!may_wait) {
        lane->x->patient = false;
    }
    rc = write_and_flush(lane, bytes, may_wait);
    e = lane->engine;
    pws_lane_leave(lane);
    if (rc == 0) {
        pws_lane_drop_released(e); /* a long body is not kept until its end */
    }
    return rc;
}

int
pws_response_write_bytes(PyObject *object, pws_lane_link *link, PyObject *bytes)
{
    return write_item(object, link, bytes, false);
}

/* A list or tuple: all is there, so its length is known, and it goes out in one piece.
 */
static int
send_sequence(pws_lane *lane, PyObject *sequence)
{
    Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence);
    uint64_t total = 0;

    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = pws_item_of(sequence, i);
        int rc = item != NULL ? check_bytes(item) : -1;

        total += rc == 0 ? (uint64_t)PyBytes_GET_SIZE(item) : 0;
        Py_XDECREF(item);
        if (rc < 0) {
            return -1;
        }
    }
    if (lane->x->answer == PWS_ANSWER_NONE && pws_response_start(lane, total) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(sequence); i++) {
        PyObject *item = pws_item_of(sequence, i); /* a wait may change the list */
        int rc = item == NULL || check_bytes(item) < 0 ? -1 : add_bytes(lane, item);

        Py_XDECREF(item);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static int
send_iterable(pws_lane *lane, PyObject *iterable)
{
    PyObject *iterator = PyObject_GetIter(iterable), *item;
    pws_lane_link link = lane; /* the request does not end before us */
    int rc = 0;

    if (iterator == NULL) {
        return -1;
    }
    while (rc == 0 && (item = PyIter_Next(iterator)) != NULL) {
        rc = write_item(lane->start_response, &link, item, true);
        Py_DECREF(item);
        if (lane->x->gone || pws_exchange_is_taken(lane->x)) {
            break; /* nobody reads the rest */
        }
    }
    Py_DECREF(iterator);
    pws_hold_reclaim(&lane->engine->hold);
    return rc < 0 || PyErr_Occurred() ? -1 : 0;
}

/* From inside; returns 1, 0 when it is to be iterated, or -1. */
static int
add_file(pws_lane *lane, const pws_plain_file *file)
{
    pws_exchange *x = lane->x;

    if (x->answer == PWS_ANSWER_NONE && pws_response_start(lane, file->length) < 0) {
        return -1;
    }
    if (x->answer == PWS_ANSWER_STARTED && x->frame == PWS_FRAME_CHUNKED) {
        return 0; /* write() was used before, and no length is declared */
    }
    if (pws_exchange_send_file(x, file->fd, file->offset, file->length) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 1;
}

/* Returns 1 when the file was sent natively, 0 when it is to be iterated, -1. */
static int
send_file(pws_lane *lane, PyObject *wrapper)
{
    pws_plain_file file;
    int rc = pws_file_wrapper_plain(lane->module, wrapper, &file);

    if (rc <= 0) {
        return rc;
    }
    if (enter(lane) < 0) {
        return -1;
    }
    rc = add_file(lane, &file);
    if (rc > 0) {
        flush_for_good(lane);
    }
    pws_lane_leave(lane);
    return rc;
}

/* What is no list. */
static int
send_pieces(pws_lane *lane, PyObject *result)
{
    if (Py_TYPE(result) == lane->module->file_wrapper_type && lane->config->sendfile) {
        int rc = send_file(lane, result);

        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
    }
    return send_iterable(lane, result);
}

/* Say in the log what the app has declared and not kept. */
static void
report_length(const pws_exchange *x, bool is_short)
{
    pws_slice method = pws_request_slice(&x->request, x->request.method);
    pws_slice target = pws_request_slice(&x->request, x->request.target);

    if (is_short || x->overrun) {
        pws_log_limited(PWS_LOG_LENGTH, PWS_LOG_ERROR,
                        "%.*s %.*s: the app's body is %s than its Content-Length",
                        (int)method.len, method.at, (int)target.len, target.at,
                        is_short ? "shorter" : "longer");
    }
}

/* The body, if it is a list, and its end. */
static int
send_end(pws_lane *lane, PyObject *list)
{
    pws_exchange *x = lane->x;
    int rc = enter(lane);

    if (rc < 0) {
        return -1;
    }
    if (list != NULL) {
        rc = send_sequence(lane, list);
    }
    else if (x->answer == PWS_ANSWER_NONE) {
        rc = pws_response_start(lane, 0);
    }
    if (rc == 0 && x->answer == PWS_ANSWER_STARTED) {
        report_length(x, pws_exchange_finish(x) < 0);
    }
    pws_lane_leave(lane);
    return rc;
}

int
pws_response_send(pws_lane *lane, PyObject *result)
{
    const bool listed = PyList_CheckExact(result) || PyTuple_CheckExact(result);

    if (!listed && send_pieces(lane, result) < 0) {
        return -1;
    }
    if (send_end(lane, listed ? result : NULL) < 0) {
        return -1;
    }
    if (pws_exchange_pending(lane->x) <= SEND_WITHOUT_GIL) {
        return 0;
    }
    return flush_once(lane, false); /* the engine has it soon */
}
