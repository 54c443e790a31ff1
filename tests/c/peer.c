#include "peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define PATIENCE_MS 20000

static int64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void
rig_prepare(rig *r)
{
    memset(r, 0, sizeof(*r));
    r->listener_count = 1;
    r->budget = 64;
    snprintf(r->dir, sizeof(r->dir), "/tmp/pywsgiserve-test.XXXXXX");
    CHECK(mkdtemp(r->dir) != NULL);
    r->config = (pws_engine_config){
        .rules = {.line_max = 4094,
                  .fields_max = 100,
                  .field_size_max = 8190,
                  .head_max = PWS_HEAD_MAX},
        .worker_connections = 100,
        .header_timeout_ms = 60000,
        .body_timeout_ms = 60000,
        .send_timeout_ms = 60000,
        .keepalive_ms = 60000,
        .request_buffering = true,
        .body_buffer_size = 256 * 1024,
        .response_spool_limit = 64 * 1024 * 1024,
        .spool_dir = r->dir,
    };
    pws_log_open(2, PWS_LOG_CRITICAL);
}

static void
open_listener(rig *r, unsigned i)
{
    const pws_listener_options options = {
        .backlog = 128, .uid = (uid_t)-1, .gid = (gid_t)-1};
    pws_address address;
    char text[128], why[256] = "";

    if (r->local) {
        snprintf(text, sizeof(text), "unix:%s/socket%u", r->dir, i);
    }
    else {
        snprintf(text, sizeof(text), "127.0.0.1:0");
    }
    if (pws_address_parse(&address, text, why, sizeof(why)) < 0 ||
        pws_listener_open(&r->listeners[i], &address, &options, why, sizeof(why)) < 0) {
        harness_fail(__FILE__, __LINE__, why);
    }
    r->listeners[i].index = i;
}

void
rig_open(rig *r)
{
    for (unsigned i = 0; i < r->listener_count; i++) {
        open_listener(r, i);
    }
    CHECK_EQ(pws_engine_init(&r->engine, &r->config, r->listeners, r->listener_count),
             0);
}

void
rig_start(rig *r)
{
    rig_prepare(r);
    rig_open(r);
}

void
rig_close(rig *r)
{
    pws_engine_close(&r->engine);
    (void)rig_release(r);
    CHECK_EQ(r->engine.bodies.memory_all, 0);
    CHECK_EQ(atomic_load(&r->engine.outputs.spooled_all), 0);
    CHECK_EQ(atomic_load(&r->engine.outputs.memory_all), 0);
    for (unsigned i = 0; i < r->listener_count; i++) {
        pws_listener_close(&r->listeners[i]);
    }
    CHECK_EQ(rmdir(r->dir), 0);
}

int64_t
rig_deadline(void)
{
    return now_ms() + PATIENCE_MS;
}

void
rig_step(rig *r, int64_t deadline_ms)
{
    pws_exchange *x;

    if (now_ms() > deadline_ms) {
        harness_fail(__FILE__, __LINE__, "nothing has happened for too long");
    }
    CHECK(pws_engine_poll(&r->engine, r->budget, 2) >= 0);
    while (r->serve && (x = pws_engine_next(&r->engine)) != NULL) {
        r->served++;
        rig_answer(x);
    }
}

pws_exchange *
rig_request(rig *r)
{
    pws_exchange *x;

    UNTIL(r, (x = pws_engine_next(&r->engine)) != NULL);
    return x;
}

void
rig_begin(pws_exchange *x, const char *status, uint64_t known_length)
{
    const char *why;

    CHECK_EQ(pws_exchange_start(x, pws_slice_of(status), NULL, 0, known_length, &why),
             0);
}

static void
reply_bytes(pws_exchange *x, pws_slice body)
{
    rig_begin(x, "200 OK", body.len);
    CHECK_EQ(pws_exchange_write(x, body.at, body.len, NULL), 0);
    CHECK_EQ(pws_exchange_finish(x), 0);
    pws_exchange_done(x);
}

void
rig_reply(pws_exchange *x, const char *body)
{
    reply_bytes(x, pws_slice_of(body));
}

void
rig_answer(pws_exchange *x)
{
    reply_bytes(x, pws_request_slice(&x->request, x->request.target));
}

pws_conn *
rig_conn(rig *r)
{
    for (uint32_t i = 0; i < r->engine.slot_count; i++) {
        if (r->engine.slots[i].conn != NULL) {
            return r->engine.slots[i].conn;
        }
    }
    return NULL;
}

bool
rig_in_state(rig *r, pws_conn_state state)
{
    const pws_conn *c = rig_conn(r);

    return c != NULL && c->state == state;
}

int
rig_wait(pws_exchange *x, unsigned what, int64_t timeout_ms)
{
    const pws_wait wait = {.x = x, .what = what, .timeout_ms = timeout_ms};

    return pws_engine_wait(x->engine, &wait);
}

unsigned
rig_release(rig *r)
{
    pws_segment *segment = pws_engine_released(&r->engine);
    unsigned n = 0;

    while (segment != NULL) {
        pws_segment *next = segment->next;

        n++;
        --*(int *)segment->object;
        free(segment);
        segment = next;
    }
    return n;
}

void
peer_connect(peer *p, rig *r, unsigned listener)
{
    const pws_address *to = &r->listeners[listener].address;

    memset(p, 0, sizeof(*p));
    p->r = r;
    p->fd = socket(to->sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(p->fd >= 0);
    CHECK_EQ(connect(p->fd, &to->sa.any, to->len), 0);
}

void
peer_close(peer *p)
{
    if (p->fd >= 0) {
        close(p->fd);
    }
    p->fd = -1;
    free(p->in);
    p->in = NULL;
}

void
peer_reset(peer *p)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};

    CHECK_EQ(setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    peer_close(p);
}

void
peer_send_bytes(peer *p, const char *bytes, size_t len)
{
    int64_t deadline = rig_deadline();

    while (len > 0) {
        ssize_t n = send(p->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0) {
            CHECK_EQ(errno, EAGAIN);
            peer_receive(p);
            rig_step(p->r, deadline);
            continue;
        }
        bytes += n;
        len -= (size_t)n;
    }
}

void
peer_send(peer *p, const char *text)
{
    peer_send_bytes(p, text, strlen(text));
}

/* Forget what was looked at. */
static void
forget(peer *p)
{
    if (p->at > 0) {
        memmove(p->in, p->in + p->at, p->len - p->at);
        p->len -= p->at;
        p->at = 0;
    }
}

static void
make_room(peer *p)
{
    if (p->room - p->len < 65536) {
        p->room = p->room * 2 + 65536;
        p->in = realloc(p->in, p->room);
        CHECK(p->in != NULL);
    }
}

void
peer_receive(peer *p)
{
    while (!p->eof && p->error == 0) {
        ssize_t n;

        make_room(p);
        n = recv(p->fd, p->in + p->len, p->room - p->len, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        p->eof = n == 0;
        p->error = n < 0 ? errno : 0;
        p->len += n > 0 ? (size_t)n : 0;
    }
}

/* Whether `n` bytes are there. */
static bool
has(peer *p, size_t n)
{
    if (p->len - p->at < n) {
        peer_receive(p);
    }
    if (p->len - p->at < n && (p->eof || p->error != 0)) {
        printf("    the connection has ended: %s\n", strerror(p->error));
        harness_fail(__FILE__, __LINE__, "more bytes were expected");
    }
    return p->len - p->at >= n;
}

pws_slice
peer_read(peer *p, size_t n)
{
    UNTIL(p->r, has(p, n));
    p->at += n;
    return (pws_slice){p->in + p->at - n, n};
}

/* The next line, without CRLF; an offset, since the buffer moves. */
static size_t
read_line(peer *p, size_t *len)
{
    size_t from = p->at, n = 0;

    do {
        n++;
        (void)peer_read(p, 1);
    } while (n < 2 || memcmp(p->in + from + n - 2, "\r\n", 2) != 0);
    *len = n - 2;
    return from;
}

static bool
ended(peer *p)
{
    peer_receive(p);
    return p->eof;
}

/* A chunked body, put together at its beginning. Returns its length. */
static size_t
read_chunks(peer *p, size_t from)
{
    size_t made = 0, len, line;

    for (;;) {
        unsigned long size;

        line = read_line(p, &len);
        size = strtoul(p->in + line, NULL, 16);
        (void)peer_read(p, size);
        memmove(p->in + from + made, p->in + p->at - size, size);
        made += size;
        (void)read_line(p, &len);
        CHECK_EQ(len, 0);
        if (size == 0) {
            return made;
        }
    }
}

int
peer_response(peer *p)
{
    size_t start, len = 0, body, body_len = PWS_LENGTH_UNKNOWN;
    bool chunked = false;

    if (p->at > 1 << 20 || p->at == p->len) {
        forget(p);
    }
    make_room(p);
    start = read_line(p, &len);
    CHECK(len > 12 && memcmp(p->in + start, "HTTP/1.1 ", 9) == 0);
    p->status = atoi(p->in + start + 9);
    do {
        size_t line = read_line(p, &len);

        if (strncmp(p->in + line, "Content-Length: ", 16) == 0) {
            body_len = strtoul(p->in + line + 16, NULL, 10);
        }
        chunked = chunked || strncmp(p->in + line, "Transfer-Encoding: c", 20) == 0;
    } while (len > 0);
    body = p->at;
    if (chunked) {
        body_len = read_chunks(p, body);
    }
    else if (p->status < 200 || p->status == 204 || p->status == 304) {
        body_len = 0;
    }
    else if (body_len == PWS_LENGTH_UNKNOWN) {
        UNTIL(p->r, ended(p));
        body_len = p->len - p->at;
        p->at = p->len;
    }
    else {
        (void)peer_read(p, body_len);
    }
    p->head = (pws_slice){p->in + start, body - start};
    p->body = (pws_slice){p->in + body, body_len};
    return p->status;
}

void
peer_check_closed(peer *p)
{
    UNTIL(p->r, ended(p) || p->error != 0);
    CHECK_EQ(p->error, 0);
    CHECK_EQ(p->len - p->at, 0);
}

void
peer_check_reset(peer *p)
{
    UNTIL(p->r, ended(p) || p->error != 0);
    CHECK_EQ(p->error, ECONNRESET);
}

const char *
request(const char *method, const char *target, const char *fields)
{
    static char text[4096];

    snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n", method, target,
             fields);
    return text;
}
