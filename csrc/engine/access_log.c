#include "engine/access_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/escape.h"
#include "base/log.h"
#include "base/ring.h"
#include "base/sink.h"
#include "proto/target.h"

/* Lines are written when so much waits, or after this time. */
#define FULL (32u * 1024)
#define WAIT_MS 1000

/* The longest value and the longest line that are logged; what is beyond is cut. A line
 * fits into a ring that is empty. */
#define VALUE_MAX 4096u
#define LINE_MAX_BYTES (PWS_RING_SIZE / 2 - 1024)

struct pws_access_log {
    pws_sink sink;
    pws_ring ring;
    void *own; /* its memory, until it is shared */
    pws_access_format format;
    int64_t due_ms;     /* when what waits is to be written */
    bool failing;       /* the last write did not take all: only due_ms counts */
    unsigned long lost; /* lines that had no room meanwhile, not told yet */
    time_t time_s;      /* of time_text */
    char time_text[40];
    char line[LINE_MAX_BYTES]; /* the one being made */
};

pws_access_log *
pws_access_log_new(const char *format, int fd)
{
    pws_access_log *log = calloc(1, sizeof(*log));

    if (log == NULL) {
        return NULL;
    }
    log->sink = (pws_sink)PWS_SINK_ON(-1);
    log->own = calloc(1, PWS_RING_SIZE);
    if (log->own == NULL || pws_access_format_init(&log->format, format) < 0 ||
        pws_sink_open(&log->sink, fd) < 0) {
        pws_access_log_free(log);
        return NULL;
    }
    pws_ring_open(&log->ring, log->own, PWS_RING_SIZE);
    return log;
}

void
pws_access_log_free(pws_access_log *log)
{
    pws_access_log_flush(log);
    pws_sink_close(&log->sink);
    pws_access_format_clear(&log->format);
    free(log->own);
    free(log);
}

void
pws_access_log_share(pws_access_log *log, void *memory)
{
    pws_ring_open(&log->ring, memory, PWS_RING_SIZE);
    free(log->own);
    log->own = NULL;
    log->failing = false;
    log->lost = 0;
}

const pws_access_format *
pws_access_log_format(const pws_access_log *log)
{
    return &log->format;
}

int
pws_access_log_reopen(pws_access_log *log, int fd)
{
    return pws_sink_open(&log->sink, fd);
}

static void
report_lost(pws_access_log *log)
{
    if (log->lost > 0) {
        pws_log_limited(PWS_LOG_UNLOGGED, PWS_LOG_ERROR,
                        "Access log: %lu lines lost, it cannot be written", log->lost);
        log->lost = 0;
    }
}

void
pws_access_log_flush(pws_access_log *log)
{
    log->failing = !pws_ring_write(&log->ring, &log->sink);
    report_lost(log);
}

void
pws_access_log_discard(pws_access_log *log)
{
    log->ring.memory = NULL;
    log->lost = 0;
}

int
pws_access_log_tick(pws_access_log *log, int64_t now_ms)
{
    if (pws_ring_waiting(&log->ring) == 0) {
        return -1;
    }
    if (now_ms < log->due_ms) {
        return (int)(log->due_ms - now_ms);
    }
    pws_access_log_flush(log);
    log->due_ms = now_ms + WAIT_MS;
    return log->failing ? WAIT_MS : -1;
}

/* Put a line in. Where writing fails, it is not tried for each line. */
static void
add_line(pws_access_log *log, pws_slice text, int64_t now_ms)
{
    if (pws_ring_waiting(&log->ring) == 0) {
        log->due_ms = now_ms + WAIT_MS;
    }
    if (!pws_ring_put(&log->ring, text)) {
        if (!log->failing) {
            pws_access_log_flush(log);
        }
        if (!pws_ring_put(&log->ring, text)) {
            log->lost++;
        }
    }
    if (!log->failing && pws_ring_waiting(&log->ring) >= FULL) {
        pws_access_log_flush(log);
    }
}

typedef struct {
    char *at;
    char *end; /* room for the newline is behind it */
} line;

static void
put(line *l, pws_slice s)
{
    size_t room = (size_t)(l->end - l->at);
    size_t n = s.len < room ? s.len : room;

    if (n > 0) {
        memcpy(l->at, s.at, n);
        l->at += n;
    }
}

static void
put_escaped(line *l, pws_slice s)
{
    if (s.len > VALUE_MAX) {
        s.len = VALUE_MAX;
    }
    l->at += pws_escape(l->at, (size_t)(l->end - l->at), s, PWS_ESCAPE_QUOTES);
}

/* A value, or "-" for an empty one. */
static void
put_value(line *l, pws_slice s)
{
    if (s.len == 0) {
        put(l, PWS_SLICE("-"));
    }
    else {
        put_escaped(l, s);
    }
}

static void
put_number(line *l, uint64_t n)
{
    char digits[20];
    size_t i = sizeof(digits);

    do {
        digits[--i] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    put(l, (pws_slice){digits + i, sizeof(digits) - i});
}

static void
put_time(pws_access_log *log, line *l, const pws_clock *clock)
{
    time_t now = (time_t)clock->wall_s;

    if (now != log->time_s || log->time_text[0] == '\0') {
        struct tm tm;

        memset(&tm, 0, sizeof(tm));
        localtime_r(&now, &tm);
        strftime(log->time_text, sizeof(log->time_text), "[%d/%b/%Y:%H:%M:%S %z]", &tm);
        log->time_s = now;
    }
    put(l, pws_slice_of(log->time_text));
}

static void
put_protocol(line *l, const pws_request *req)
{
    if (req->protocol.len > 0) {
        put_escaped(l, pws_request_slice(req, req->protocol));
        return;
    }
    put(l, req->minor == 0 ? PWS_SLICE("HTTP/1.0") : PWS_SLICE("HTTP/1.1"));
}

/* As it was sent; what a front end has left out is made of its parts. */
static void
put_target(line *l, const pws_request *req)
{
    if (req->target.len > 0) {
        put_escaped(l, pws_request_slice(req, req->target));
        return;
    }
    put_escaped(l, pws_request_slice(req, req->script_name));
    put_escaped(l, pws_request_slice(req, req->path));
    if (req->query.len > 0) {
        put(l, PWS_SLICE("?"));
        put_escaped(l, pws_request_slice(req, req->query));
    }
}

static void
put_request_line(line *l, const pws_request *req)
{
    if (req->method.len == 0) {
        put(l, PWS_SLICE("-")); /* refused before it was one */
        return;
    }
    put_escaped(l, pws_request_slice(req, req->method));
    put(l, PWS_SLICE(" "));
    put_target(l, req);
    put(l, PWS_SLICE(" "));
    put_protocol(l, req);
}

static void
put_path(line *l, const pws_request *req)
{
    char decoded[VALUE_MAX] = "";
    pws_slice path = pws_request_slice(req, req->path);

    if (!req->path_escaped) {
        put_value(l, path); /* a front end has decoded it: once is enough */
        return;
    }
    if (path.len > sizeof(decoded)) {
        path.len = sizeof(decoded);
    }
    put_value(l, (pws_slice){decoded, pws_percent_decode(decoded, path)});
}

static void
put_request_field(line *l, const pws_request *req, pws_slice name)
{
    const unsigned others = PWS_FIELD_DROPPED | PWS_FIELD_VARIABLE;
    const pws_field *found = NULL;

    for (uint32_t i = 0; i < req->field_count; i++) {
        const pws_field *field = &req->fields[i];

        if ((field->flags & others) == 0 &&
            pws_slice_eq(pws_request_slice(req, field->name), name) &&
            (found == NULL || (field->flags & PWS_FIELD_REPLACES) != 0)) {
            found = field;
        }
    }
    if (found == NULL) {
        put(l, PWS_SLICE("-"));
        return;
    }
    put_value(l, pws_request_slice(req, found->value));
}

/* The user of "Basic base64(user:password)" (RFC 7617). */
static void
put_user(line *l, const pws_request *req)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char user[256] = "";
    const char *colon;
    size_t n = 0;
    unsigned bits = 0, have = 0;
    pws_slice value = {NULL, 0};

    for (uint32_t i = 0; i < req->field_count; i++) {
        if (req->fields[i].id == PWS_FIELD_AUTHORIZATION) {
            value = pws_request_slice(req, req->fields[i].value);
        }
    }
    if (value.len < 7 ||
        !pws_slice_eq_nocase((pws_slice){value.at, 6}, PWS_SLICE("Basic "))) {
        put(l, PWS_SLICE("-"));
        return;
    }
    for (size_t i = 6; i < value.len && n < sizeof(user); i++) {
        const char *digit = value.at[i] != '\0' ? strchr(letters, value.at[i]) : NULL;

        if (digit == NULL) {
            break;
        }
        bits = bits << 6 | (unsigned)(digit - letters);
        have += 6;
        if (have >= 8) {
            have -= 8;
            user[n++] = (char)(bits >> have & 0xff);
        }
    }
    colon = memchr(user, ':', n);
    put_value(l, (pws_slice){user, colon != NULL ? (size_t)(colon - user) : 0});
}

static void
put_host(line *l, const pws_exchange *x)
{
    char host[PWS_HOST_ROOM] = "";

    if (x->request.has_client) {
        put_value(l, pws_request_slice(&x->request, x->request.client));
        return;
    }
    put(l, (pws_slice){host, pws_peer_host(&x->conn->peer, host)});
}

static void
put_decimal_seconds(line *l, uint64_t us)
{
    char text[32];
    int n =
        snprintf(text, sizeof(text), "%llu.%06llu", (unsigned long long)(us / 1000000),
                 (unsigned long long)(us % 1000000));

    put(l, (pws_slice){text, (size_t)n});
}

static void
put_note(line *l, const pws_exchange *x, size_t number)
{
    const char *text = x->notes != NULL ? x->notes[number] : NULL;

    put_value(l, text != NULL ? pws_slice_of(text) : PWS_SLICE(""));
}

/* The atoms that are numbers; others are none of its business. */
static void
put_number_op(line *l, pws_access_op_kind kind, const pws_exchange *x, uint64_t us)
{
    if (kind == PWS_OP_STATUS) {
        put_number(l, (uint64_t)x->status);
    }
    else if (kind == PWS_OP_BYTES || kind == PWS_OP_BYTES_OR_DASH) {
        put_number(l, x->body_sent);
    }
    else if (kind == PWS_OP_SECONDS) {
        put_number(l, us / 1000000);
    }
    else if (kind == PWS_OP_MILLISECONDS) {
        put_number(l, us / 1000);
    }
    else if (kind == PWS_OP_MICROSECONDS) {
        put_number(l, us);
    }
    else if (kind == PWS_OP_DECIMAL_SECONDS) {
        put_decimal_seconds(l, us);
    }
}

/* The atoms that repeat a part of the request. */
static void
put_request_op(line *l, const pws_access_op *o, const pws_request *req)
{
    if (o->kind == PWS_OP_REQUEST_LINE) {
        put_request_line(l, req);
    }
    else if (o->kind == PWS_OP_METHOD) {
        put_value(l, pws_request_slice(req, req->method));
    }
    else if (o->kind == PWS_OP_PATH) {
        put_path(l, req);
    }
    else if (o->kind == PWS_OP_QUERY) {
        put_escaped(l, pws_request_slice(req, req->query));
    }
    else if (o->kind == PWS_OP_PROTOCOL) {
        put_protocol(l, req);
    }
    else if (o->kind == PWS_OP_REQUEST_FIELD) {
        put_request_field(l, req, o->text);
    }
    else if (o->kind == PWS_OP_USER) {
        put_user(l, req);
    }
}

static void
put_pid(line *l)
{
    put(l, PWS_SLICE("<"));
    put_number(l, (uint64_t)getpid());
    put(l, PWS_SLICE(">"));
}

static void
put_op(pws_access_log *log, line *l, const pws_access_op *o, const pws_exchange *x,
       const pws_clock *clock, uint64_t us)
{
    switch (o->kind) {
    case PWS_OP_TEXT:
        put(l, o->text);
        return;
    case PWS_OP_DASH:
        put(l, PWS_SLICE("-"));
        return;
    case PWS_OP_HOST:
        put_host(l, x);
        return;
    case PWS_OP_TIME:
        put_time(log, l, clock);
        return;
    case PWS_OP_PID:
        put_pid(l);
        return;
    case PWS_OP_NOTE:
        put_note(l, x, o->note);
        return;
    case PWS_OP_REQUEST_LINE:
    case PWS_OP_METHOD:
    case PWS_OP_PATH:
    case PWS_OP_QUERY:
    case PWS_OP_PROTOCOL:
    case PWS_OP_REQUEST_FIELD:
    case PWS_OP_USER:
        put_request_op(l, o, &x->request);
        return;
    case PWS_OP_STATUS:
    case PWS_OP_BYTES:
    case PWS_OP_BYTES_OR_DASH:
    case PWS_OP_SECONDS:
    case PWS_OP_MILLISECONDS:
    case PWS_OP_MICROSECONDS:
    case PWS_OP_DECIMAL_SECONDS:
        put_number_op(l, o->kind, x, us);
        return;
    }
}

static uint64_t
microseconds_since(const struct timespec *start)
{
    struct timespec now;
    int64_t us;

    clock_gettime(CLOCK_MONOTONIC, &now);
    us = ((int64_t)now.tv_sec - start->tv_sec) * 1000000 +
         (now.tv_nsec - start->tv_nsec) / 1000;
    return start->tv_sec != 0 && us > 0 ? (uint64_t)us : 0;
}

void
pws_access_log_add(pws_access_log *log, const pws_exchange *x, const pws_clock *clock)
{
    uint64_t us = microseconds_since(&x->started);
    line l = {log->line, log->line + LINE_MAX_BYTES - 1};

    for (size_t i = 0; i < log->format.op_count; i++) {
        put_op(log, &l, &log->format.ops[i], x, clock, us);
    }
    *l.at++ = '\n';
    add_line(log, (pws_slice){log->line, (size_t)(l.at - log->line)}, clock->now_ms);
}

void
pws_access_log_add_text(pws_access_log *log, pws_slice text, int64_t now_ms)
{
    line l = {log->line, log->line + LINE_MAX_BYTES - 1};

    put(&l, text);
    *l.at++ = '\n';
    add_line(log, (pws_slice){log->line, (size_t)(l.at - log->line)}, now_ms);
}
