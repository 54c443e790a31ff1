#include "engine/exchange.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "base/log.h"
#include "engine/access_log.h"
#include "engine/engine.h"
#include "engine/intake.h"
#include "engine/io.h"
#include "engine/tempfile.h"

/* What nginx takes of a response head by uwsgi, unless it is told otherwise. */
#define FRONT_HEAD_MAX 4096

static bool
claim(pws_exchange *x, uint32_t who)
{
    uint32_t nobody = PWS_CLAIM_NONE;

    return atomic_compare_exchange_strong(&x->claim, &nobody, who) || nobody == who;
}

static pws_slice
date_now(char *date)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    pws_http_date(date, (int64_t)t.tv_sec);
    return (pws_slice){date, PWS_HTTP_DATE_LEN};
}

/* The engine's cached date, unless an app has run long enough to make it old. */
static pws_slice
current_date(const pws_exchange *x, char *fresh)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    if ((int64_t)t.tv_sec == x->date_s) {
        return (pws_slice){x->date, PWS_HTTP_DATE_LEN};
    }
    return date_now(fresh);
}

static void
judge_head_size(pws_exchange *x, size_t n)
{
    if (x->conn->listener->protocol == PWS_PROTOCOL_UWSGI &&
        !atomic_exchange(&x->engine->said->large_head, true)) {
        pws_log(PWS_LOG_WARNING,
                "A response head of %zu bytes by uwsgi: nginx makes a 502 of it when "
                "its uwsgi_buffer_size, a page by default, is less",
                n);
    }
}

/* Write the head where it belongs: into the block, or, when that has no room, by way of
 * a buffer. Returns 0 or -1 with r->refusal. */
static int
write_head(pws_exchange *x, pws_response *r)
{
    size_t room = pws_response_room(r), n;
    char *buffer;
    int rc;

    if (room <= pws_output_block_room(&x->out)) {
        n = pws_response_write(r, x->out.block + x->out.end);
        pws_output_commit(&x->out, n);
        if (n > FRONT_HEAD_MAX) {
            judge_head_size(x, n);
        }
        return n > 0 ? 0 : -1;
    }
    buffer = malloc(room);
    if (buffer == NULL) {
        r->refusal = "no memory for the response head";
        return -1;
    }
    n = pws_response_write(r, buffer);
    rc = n > 0 ? pws_output_copy(&x->out, buffer, n) : -1;
    free(buffer);
    if (n > 0 && rc < 0) {
        r->refusal = "no memory for the response head";
    }
    if (n > FRONT_HEAD_MAX) {
        judge_head_size(x, n);
    }
    return rc;
}

void
pws_exchange_note(pws_exchange *x, size_t number, pws_slice text)
{
    if (x->notes == NULL) {
        x->notes =
            calloc(pws_access_log_format(x->engine->config->access_log)->note_count,
                   sizeof(char *));
    }
    if (x->notes != NULL) {
        free(x->notes[number]);
        x->notes[number] = strndup(text.at, text.len);
    }
}

void
pws_exchange_drop_notes(pws_exchange *x)
{
    if (x->notes != NULL) {
        size_t count = pws_access_log_format(x->engine->config->access_log)->note_count;

        for (size_t i = 0; i < count; i++) {
            free(x->notes[i]);
        }
        free(x->notes);
        x->notes = NULL;
    }
}

/* What the access log wants of the app's headers. */
static void
note_fields(pws_exchange *x, const pws_header *fields, size_t count)
{
    const pws_access_format *format =
        pws_access_log_format(x->engine->config->access_log);

    for (size_t n = 0; n < format->note_count; n++) {
        for (size_t i = 0; i < count; i++) {
            if (format->notes[n].kind == PWS_NOTE_RESPONSE_FIELD &&
                pws_slice_eq_nocase(format->notes[n].name, fields[i].name)) {
                pws_exchange_note(x, n, fields[i].value);
            }
        }
    }
}

/* Whether the client is to be told that the connection ends: because the server does,
 * but not before it has answered what the client has sent already (RFC 9112 9.6). */
static bool
is_last(const pws_exchange *x)
{
    return atomic_load_explicit(&x->engine->draining, memory_order_relaxed) &&
           !(x->body.complete && x->in_next < x->in_end);
}

int
pws_exchange_start(pws_exchange *x, pws_slice status, const pws_header *fields,
                   size_t count, uint64_t known_length, const char **why)
{
    const pws_engine_config *config = x->engine->config;
    char date[PWS_HTTP_DATE_LEN];
    pws_response r = {
        .status = status,
        .fields = fields,
        .field_count = count,
        .server = config->server,
        .date = current_date(x, date),
        .known_length = known_length,
        .head = x->request.head,
        .http10 = x->request.minor == 0,
        .keep_alive = x->request.keep_alive && config->keepalive_ms > 0 && !is_last(x),
    };

    *why = NULL;
    pws_exchange_reclaim(x);
    if (!claim(x, PWS_CLAIM_APP)) {
        return -1;
    }
    if (write_head(x, &r) < 0) {
        *why = r.refusal;
        return -1;
    }
    x->answer = PWS_ANSWER_STARTED;
    x->status = r.code;
    x->frame = r.frame;
    x->left = r.length;
    x->keep = r.keep_alive;
    if (config->access_log != NULL) {
        note_fields(x, fields, count);
    }
    return 0;
}

void
pws_exchange_cut(pws_exchange *x)
{
    x->answer = PWS_ANSWER_CUT;
    x->keep = false;
}

/* Copied while it is short, pinned when it is not. Returns 1 when `object` was pinned,
 * 0, or PWS_IO_ERROR without memory. */
static int
add_in_memory(pws_output *out, const char *data, size_t len, void *object)
{
    if (object != NULL && len > PWS_COPY_MAX) {
        return pws_output_pin(out, data, len, object) < 0 ? PWS_IO_ERROR : 1;
    }
    return pws_output_copy(out, data, len) < 0 ? PWS_IO_ERROR : 0;
}

/* A chunk goes out whole or not at all: its frame is spooled with it, in one piece. */
static int
spool_chunk(pws_exchange *x, const char *data, size_t len)
{
    size_t line;
    char *buffer = malloc(PWS_CHUNK_LINE_ROOM + len + 2);
    int rc;

    if (buffer == NULL) {
        return PWS_IO_ERROR;
    }
    line = pws_chunk_line(buffer, len);
    memcpy(buffer + line, data, len);
    memcpy(buffer + line + len, "\r\n", 2);
    rc = pws_output_spool(&x->out, buffer, line + len + 2);
    free(buffer);
    return rc < 0 ? PWS_IO_AGAIN : 0;
}

static int
add_chunk(pws_exchange *x, const char *data, size_t len, void *object)
{
    char line[PWS_CHUNK_LINE_ROOM];
    int rc;

    if (!pws_output_may_hold(&x->out, PWS_CHUNK_LINE_ROOM + len + 2, object)) {
        return spool_chunk(x, data, len);
    }
    if (pws_output_copy(&x->out, line, pws_chunk_line(line, len)) < 0) {
        return PWS_IO_ERROR;
    }
    rc = add_in_memory(&x->out, data, len, object);
    if (rc >= 0 && pws_output_copy(&x->out, "\r\n", 2) < 0) {
        pws_exchange_cut(x); /* but a pinned object is pinned all the same */
    }
    return rc;
}

int
pws_exchange_write(pws_exchange *x, const char *data, size_t len, void *object)
{
    int rc;

    pws_exchange_reclaim(x);
    if (x->answer != PWS_ANSWER_STARTED || x->gone || len == 0 ||
        x->frame == PWS_FRAME_NONE) {
        return 0;
    }
    if (x->frame == PWS_FRAME_CHUNKED) {
        rc = add_chunk(x, data, len, object);
    }
    else {
        if (x->frame == PWS_FRAME_LENGTH && len > x->left) {
            len = (size_t)x->left;
            x->overrun = true;
            if (len == 0) {
                return 0;
            }
        }
        if (pws_output_may_hold(&x->out, len, object)) {
            rc = add_in_memory(&x->out, data, len, object);
        }
        else {
            rc = pws_output_spool(&x->out, data, len) < 0 ? PWS_IO_AGAIN : 0;
        }
        if (rc >= 0 && x->frame == PWS_FRAME_LENGTH) {
            x->left -= len;
        }
    }
    if (rc == PWS_IO_ERROR) {
        pws_exchange_cut(x);
    }
    x->body_sent += rc >= 0 ? len : 0;
    return rc;
}

/* A short range of a file is read into the block and goes out with the head. */
static int
send_short_file(pws_exchange *x, int fd, uint64_t offset, size_t len)
{
    size_t got = 0;

    while (got < len) {
        long n = pws_tempfile_read(fd, x->out.block + x->out.end + got, len - got,
                                   offset + got);

        if (n <= 0) {
            break;
        }
        got += (size_t)n;
    }
    pws_output_commit(&x->out, got);
    x->left -= got;
    x->body_sent += got;
    return 0;
}

/* A longer range, framed as the response is. Returns 0 or -1 without memory. */
static int
add_file(pws_exchange *x, int fd, uint64_t offset, uint64_t len)
{
    char line[PWS_CHUNK_LINE_ROOM];

    if (x->frame != PWS_FRAME_CHUNKED) {
        return pws_output_file(&x->out, fd, offset, len, false);
    }
    if (pws_output_copy(&x->out, line, pws_chunk_line(line, len)) < 0 ||
        pws_output_file(&x->out, fd, offset, len, false) < 0) {
        return -1;
    }
    return pws_output_copy(&x->out, "\r\n", 2);
}

int
pws_exchange_send_file(pws_exchange *x, int fd, uint64_t offset, uint64_t len)
{
    pws_exchange_reclaim(x);
    if (x->answer != PWS_ANSWER_STARTED || x->gone || x->frame == PWS_FRAME_NONE) {
        return 0;
    }
    if (x->frame == PWS_FRAME_LENGTH) {
        len = len < x->left ? len : x->left;
        if (len <= PWS_COPY_MAX && len <= pws_output_block_room(&x->out)) {
            return send_short_file(x, fd, offset, (size_t)len);
        }
        x->left -= len;
    }
    if (len > 0 && add_file(x, fd, offset, len) < 0) {
        pws_exchange_cut(x);
        return PWS_IO_ERROR;
    }
    x->body_sent += len;
    return 0;
}

int
pws_exchange_own_files(pws_exchange *x)
{
    pws_exchange_reclaim(x);
    if (pws_exchange_is_taken(x)) {
        return 0;
    }
    if (pws_output_own_files(&x->out) < 0) {
        pws_log_limited(PWS_LOG_RESOURCES, PWS_LOG_ERROR, "dup: %s", strerror(errno));
        pws_output_clear(&x->out);
        pws_exchange_cut(x);
        return PWS_IO_ERROR;
    }
    return 0;
}

int
pws_exchange_finish(pws_exchange *x)
{
    pws_exchange_reclaim(x);
    if (x->answer != PWS_ANSWER_STARTED) {
        return x->answer == PWS_ANSWER_FINISHED ? 0 : -1;
    }
    if (x->frame == PWS_FRAME_LENGTH && x->left > 0 && !x->gone) {
        pws_exchange_cut(x);
        return -1;
    }
    if (x->frame == PWS_FRAME_CHUNKED && !x->gone &&
        pws_output_copy(&x->out, "0\r\n\r\n", 5) < 0) {
        pws_exchange_cut(x);
        return -1;
    }
    x->answer = PWS_ANSWER_FINISHED;
    return 0;
}

/* A page of the server's own behind what the output holds. Returns 0 or -1. */
static int
add_page(pws_exchange *x, int status)
{
    char page[PWS_ERROR_PAGE_ROOM], date[PWS_HTTP_DATE_LEN];
    pws_slice server = x->engine->config->server, now = date_now(date);
    size_t head = pws_error_page(page, status, server, now, false);
    size_t n = pws_error_page(page, status, server, now, !x->request.head);

    x->body_sent = n - head;
    return pws_output_copy(&x->out, page, n);
}

bool
pws_exchange_refuse(pws_exchange *x, int status)
{
    pws_exchange_reclaim(x);
    if (x->answer != PWS_ANSWER_NONE || !claim(x, PWS_CLAIM_APP)) {
        return false;
    }
    x->answer = add_page(x, status) < 0 ? PWS_ANSWER_CUT : PWS_ANSWER_FINISHED;
    x->status = status;
    x->keep = false;
    x->linger = true;
    return true;
}

bool
pws_exchange_answer_more(pws_exchange *x)
{
    int rc;

    if (!pws_exchange_is_taken(x) || x->ended) {
        return true;
    }
    rc = pws_output_send(&x->out, x->conn->fd, &x->sent);
    if (rc == PWS_IO_AGAIN || rc == PWS_IO_MORE) {
        return false;
    }
    x->ended = true;
    (void)shutdown(x->conn->fd, SHUT_WR);
    return true;
}

/* The owner reads `answer` and `keep` without a lock: the hand-back sets them, by
 * `claim`. What the line of the log is made of, he does not touch any more. */
bool
pws_exchange_answer(pws_exchange *x, int status)
{
    pws_engine *e = x->engine;
    uint32_t nobody = PWS_CLAIM_NONE;

    if (!atomic_compare_exchange_strong(&x->claim, &nobody, PWS_CLAIM_RELIEF)) {
        return false;
    }
    x->status = status;
    x->ended = false;
    if (add_page(x, status) < 0) {
        x->ended = true;
    }
    if (!pws_exchange_answer_more(x)) {
        (void)pws_conn_poll(e, x->conn); /* its events tell when to go on */
    }
    if (e->config->access_log != NULL) {
        pws_access_log_add(e->config->access_log, x, &e->clock);
    }
    pws_park_cancel_all(e, x);
    return true;
}

int
pws_exchange_inform(pws_exchange *x, pws_slice status, const pws_header *fields,
                    size_t count, const char **why)
{
    pws_response r = {.status = status,
                      .fields = fields,
                      .field_count = count,
                      .known_length = PWS_LENGTH_UNKNOWN,
                      .interim = true};
    char *head = malloc(pws_response_room(&r));
    size_t n;

    if (head == NULL) {
        return 0;
    }
    n = pws_response_write(&r, head);
    *why = r.refusal;
    if (n > 0 && x->answer == PWS_ANSWER_NONE && x->request.minor > 0 &&
        claim(x, PWS_CLAIM_APP)) {
        pws_exchange_reclaim(x);
        (void)pws_output_copy(&x->out, head, n);
        (void)pws_exchange_flush(x);
        pws_exchange_lend(x);
    }
    free(head);
    return n > 0 ? 0 : -1;
}

/* The client waits for a word before it sends a body that is to be streamed. */
static void
invite_body(pws_exchange *x)
{
    if (x->body.size == 0 && x->in_end == x->raw_at && claim(x, PWS_CLAIM_APP)) {
        pws_exchange_reclaim(x);
        (void)pws_output_copy(&x->out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        (void)pws_exchange_flush(x);
        pws_exchange_lend(x);
    }
    x->request.expect_continue = false;
}

/* Returns like pws_exchange_peek. */
static int
more_of_stream(pws_exchange *x)
{
    int rc;

    if (x->unreadable || x->answer == PWS_ANSWER_DETACHED) {
        return PWS_IO_ERROR;
    }
    if (x->request.expect_continue && x->answer == PWS_ANSWER_NONE) {
        invite_body(x);
    }
    rc = pws_intake_stream(x);
    if (rc == PWS_INTAKE_DONE) {
        return 1;
    }
    if (rc == PWS_INTAKE_AGAIN) {
        return PWS_IO_AGAIN;
    }
    x->unreadable = true;
    x->linger = rc != PWS_INTAKE_ERROR;
    x->body_status = rc >= 400 ? rc : 400;
    return PWS_IO_ERROR;
}

int
pws_exchange_peek(pws_exchange *x, pws_slice *bytes)
{
    int rc = pws_body_peek(&x->body, x->in, bytes);

    while (rc == 0 && x->body.store == PWS_STORE_STREAM && !x->body.complete) {
        int more = more_of_stream(x);

        if (more != 1) {
            return more;
        }
        rc = pws_body_peek(&x->body, x->in, bytes);
    }
    return rc < 0 ? PWS_IO_ERROR : rc;
}

void
pws_exchange_take(pws_exchange *x, size_t n)
{
    pws_body_take(&x->body, n);
}

ssize_t
pws_exchange_read(pws_exchange *x, char *dst, size_t n)
{
    pws_slice bytes;
    ssize_t rc;

    if (x->body.store != PWS_STORE_STREAM) {
        rc = pws_body_read(&x->body, x->in, dst, n);
        return rc < 0 ? PWS_IO_ERROR : rc;
    }
    rc = pws_exchange_peek(x, &bytes);
    return rc == 1 ? pws_body_read(&x->body, x->in, dst, n) : rc;
}

int
pws_exchange_detach(pws_exchange *x)
{
    pws_conn *c = x->conn;
    int fd, flags;

    pws_exchange_reclaim(x);
    if (!claim(x, PWS_CLAIM_APP)) {
        errno = EPIPE;
        return -1;
    }
    (void)pws_exchange_flush(x);
    fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        return -1;
    }
    flags = fcntl(fd, F_GETFL);
    (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    if (atomic_exchange(&c->polled, false)) {
        pws_poller_remove(&x->engine->poller, c->fd);
    }
    pws_output_clear(&x->out);
    x->answer = PWS_ANSWER_DETACHED;
    x->keep = false;
    return fd;
}

void
pws_exchange_done(pws_exchange *x)
{
    _Atomic(pws_exchange *) *stack = &x->engine->handed_back;

    pws_exchange_reclaim(x);
    x->next = atomic_load_explicit(stack, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(
        stack, &x->next, x, memory_order_release, memory_order_relaxed)) {
    }
}
