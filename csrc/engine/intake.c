#include "engine/intake.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "engine/engine.h"
#include "engine/io.h"
#include "proto/http1.h"
#include "proto/uwsgi.h"

/* A body may take this much of one turn before others get theirs. */
#define TURN_MAX (1024u * 1024)

/* What all heads that are larger than a block may take. */
#define LARGE_HEADS_MAX (64u * 1024 * 1024)

#define SMALL_ROOM 2048u
#define CHUNK_ROOM 4096u

void
pws_intake_give_buffer(pws_exchange *x)
{
    if (x->in_room > PWS_BLOCK_SIZE) {
        x->engine->large_heads -= x->in_room;
    }
    if (x->in_pooled) {
        pws_pool_give(&x->engine->blocks, x->in);
    }
    else {
        free(x->in);
    }
    x->in = NULL;
    x->in_room = 0;
}

/* Everything before in_start is let go of: what counts from the buffer's start counts
 * less, and `base` is where the bytes from in_start on are now. */
static void
rebase(pws_exchange *x, char *base)
{
    uint32_t shift = x->in_start;

    x->in_start = 0;
    x->in_end -= shift;
    x->raw_at -= x->raw_at >= shift ? shift : x->raw_at;
    x->in_next -= x->in_next >= shift ? shift : x->in_next;
    x->body.buffer_at -= x->body.buffer_at >= shift ? shift : x->body.buffer_at;
    x->request.base = base;
}

/* Move the bytes from in_start on to a buffer of `room` bytes. Returns 0 or -1. */
static int
move_buffer(pws_exchange *x, uint32_t room)
{
    uint32_t len = x->in_end - x->in_start;
    char *to = malloc(room);

    if (to == NULL) {
        return -1;
    }
    if (len > 0) {
        memcpy(to, x->in + x->in_start, len);
    }
    pws_intake_give_buffer(x);
    if (room > PWS_BLOCK_SIZE) {
        x->engine->large_heads += room;
    }
    x->in = to;
    x->in_room = room;
    x->in_pooled = false;
    rebase(x, to);
    return 0;
}

/* Have `want` free bytes behind in_end. Only the head may be in front of them. */
static int
make_room(pws_exchange *x, uint32_t want)
{
    uint32_t len = x->in_end - x->in_start;
    uint32_t room;

    if (x->in == NULL) {
        x->in = pws_pool_take(&x->engine->blocks);
        if (x->in == NULL) {
            return -1;
        }
        x->in_room = PWS_BLOCK_SIZE;
        x->in_pooled = true;
        x->in_start = x->in_end = 0;
    }
    if (x->in_room - x->in_end >= want) {
        return 0;
    }
    if (x->in_start >= len && x->in_room - len >= want) {
        memcpy(x->in, x->in + x->in_start, len);
        rebase(x, x->in);
        return 0;
    }
    room = len * 2 > len + want ? len * 2 : len + want;
    if (room > PWS_BLOCK_SIZE && x->engine->large_heads + room > LARGE_HEADS_MAX) {
        return -1;
    }
    return move_buffer(x, room < SMALL_ROOM ? SMALL_ROOM : room);
}

/* Receive up to `room` bytes. Edge-triggered: a short count means that the socket is
 * empty, unless its end is to come. */
static ssize_t
receive(pws_exchange *x, char *dst, size_t room)
{
    _Atomic uint32_t *events = &x->conn->events;
    uint32_t noted = atomic_load_explicit(events, memory_order_relaxed);
    ssize_t n;

    if ((noted & PWS_READABLE) != 0) {
        atomic_fetch_and(events, ~(uint32_t)PWS_READABLE);
    }
    n = pws_io_recv(x->conn->fd, dst, room);
    if (n > 0 && ((size_t)n == room || (noted & PWS_PEER_DONE) != 0)) {
        atomic_fetch_or(events, PWS_READABLE);
    }
    if (n == 0) {
        atomic_fetch_or(events, PWS_PEER_DONE);
    }
    return n;
}

static int
without_bytes(ssize_t n)
{
    if (n == 0) {
        return PWS_INTAKE_END;
    }
    return n == PWS_IO_AGAIN ? PWS_INTAKE_AGAIN : PWS_INTAKE_ERROR;
}

static bool
is_uwsgi(const pws_exchange *x)
{
    return x->conn->listener->protocol == PWS_PROTOCOL_UWSGI;
}

static int
parse_packet(pws_exchange *x)
{
    int status = pws_uwsgi_parse(&x->parser, &x->request, x->in + x->in_start,
                                 x->in_end - x->in_start);

    if (status == 0 && x->parser.stage == PWS_HEAD_PING) {
        return PWS_INTAKE_PING;
    }
    return status;
}

/* Whether the lines behind the request line may be those of the request before. */
static bool
may_recall(const pws_exchange *x)
{
    return x->parser.stage == PWS_HEAD_FIELDS && x->request.field_count == 0 &&
           x->parser.at == x->parser.seen && x->conn->served;
}

static int
parse_http(pws_exchange *x)
{
    const pws_rules *rules = &x->engine->config->rules;
    char *base = x->in + x->in_start;
    uint32_t len = x->in_end - x->in_start;
    pws_memo *memo = NULL;
    int status = pws_http1_parse_line(&x->parser, rules, &x->request, base, len);

    if (status == 0 && may_recall(x)) {
        memo = pws_memo_of(&x->engine->memos, x->conn);
    }
    if (memo != NULL) {
        return pws_memo_parse(memo, &x->parser, rules, &x->request, len);
    }
    return status != 0 ? status
                       : pws_http1_parse(&x->parser, rules, &x->request, base, len);
}

int
pws_intake_parse(pws_exchange *x)
{
    int status = is_uwsgi(x) ? parse_packet(x) : parse_http(x);

    if (status != 0) {
        return status;
    }
    return x->parser.stage == PWS_HEAD_DONE ? PWS_INTAKE_DONE : PWS_INTAKE_AGAIN;
}

int
pws_intake_head(pws_exchange *x)
{
    int rc = PWS_INTAKE_AGAIN;

    do {
        ssize_t n;

        if (make_room(x, 1) < 0) {
            return pws_refuse(&x->request, 431, "no memory for a head of this size");
        }
        n = receive(x, x->in + x->in_end, x->in_room - x->in_end);
        if (n == 0 && x->in_end > x->in_start && is_uwsgi(x)) {
            return pws_refuse(&x->request, 400, "the packet is shorter than announced");
        }
        if (n <= 0) {
            return without_bytes(n);
        }
        x->in_end += (uint32_t)n;
        rc = pws_intake_parse(x);
    } while (rc == PWS_INTAKE_AGAIN && (x->conn->events & PWS_READABLE) != 0);
    return rc;
}

/* The storage failed; errno says why unless the status is 413. */
static int
storage_failed(pws_exchange *x, int status)
{
    if (status != 413) {
        pws_log_limited(
            PWS_LOG_STORAGE, PWS_LOG_ERROR, "Cannot store a request body in %s: %s",
            x->engine->bodies.spool_dir != NULL ? x->engine->bodies.spool_dir
                                                : "memory",
            strerror(errno));
    }
    return pws_refuse(&x->request, status,
                      status == 413 ? "body too large for memory, and no tmp_upload_dir"
                                    : "the body cannot be stored");
}

static int
complete(pws_exchange *x, uint32_t next)
{
    x->body.complete = true;
    x->in_next = next;
    return PWS_INTAKE_DONE;
}

/* Decode the chunked bytes from raw_at on, `more` of them being new, and store them. */
static int
decode_chunks(pws_exchange *x, uint32_t more)
{
    pws_body *body = &x->body;
    pws_body_shared *shared = &x->engine->bodies;
    char *raw = x->in + x->raw_at;
    size_t used, made;
    bool done;
    int status;

    x->in_end += more;
    status = pws_chunked_decode(&body->chunked, &x->engine->config->rules, raw,
                                x->in_end - x->raw_at, &used, &made);
    done = body->chunked.state == PWS_CHUNK_DONE;
    if (status != 0) {
        return pws_refuse(&x->request, status, body->chunked.refusal);
    }
    if (done && body->store == PWS_STORE_NONE) {
        body->store = PWS_STORE_BUFFER;
        body->buffer_at = x->raw_at;
        body->size = made;
        return complete(x, x->raw_at + (uint32_t)used);
    }
    if (body->store == PWS_STORE_NONE) {
        status = pws_body_open(body, shared, 0);
    }
    if (status == 0) {
        status = pws_body_add(body, shared, raw, made);
    }
    if (status != 0) {
        return storage_failed(x, status);
    }
    if (done) {
        return complete(x, x->raw_at + (uint32_t)used);
    }
    x->in_end = x->raw_at;
    return PWS_INTAKE_AGAIN;
}

/* A body of known length of which `have` bytes have come with the head. */
static int
begin_length(pws_exchange *x, uint32_t have)
{
    pws_body *body = &x->body;
    uint64_t length = x->request.length;
    int status;

    if (have >= length || (x->in_pooled && length <= x->in_room - x->raw_at)) {
        body->store = PWS_STORE_BUFFER;
        body->buffer_at = x->raw_at;
        body->size = have < length ? have : length;
        return have >= length ? complete(x, x->raw_at + (uint32_t)length)
                              : PWS_INTAKE_AGAIN;
    }
    status = pws_body_open(body, &x->engine->bodies, length);
    if (status == 0) {
        status = pws_body_add(body, &x->engine->bodies, x->in + x->raw_at, have);
    }
    x->in_end = x->raw_at;
    return status != 0 ? storage_failed(x, status) : PWS_INTAKE_AGAIN;
}

/* The executor that reads the stream has its room from the start: it does not touch
 * what is the engine's. */
static int
begin_stream(pws_exchange *x)
{
    uint32_t len = x->in_end - x->in_start;

    if (x->in_room - x->raw_at < CHUNK_ROOM &&
        move_buffer(x, len + 4 * CHUNK_ROOM) < 0) {
        return pws_refuse(&x->request, 431, "no memory for a head of this size");
    }
    x->body.store = PWS_STORE_STREAM;
    x->body.buffer_at = x->raw_at;
    return PWS_INTAKE_DONE;
}

/* uWSGI would have loaded code: who relies on it must be told, once. */
static void
say_inert(pws_exchange *x)
{
    pws_slice name = pws_request_slice(&x->request, x->request.inert);

    if (!atomic_exchange(&x->engine->said->inert, true)) {
        pws_log(PWS_LOG_WARNING,
                "The uwsgi variable %.*s has come; it and its like load nothing here, "
                "the app just finds them in environ",
                (int)name.len, name.at);
    }
}

static int
judge_packet(pws_exchange *x)
{
    if (x->request.inert.len > 0) {
        say_inert(x);
    }
    return pws_uwsgi_judge(&x->request, &x->engine->config->rules, x->conn->trusted);
}

int
pws_intake_begin_body(pws_exchange *x)
{
    int status = is_uwsgi(x) ? judge_packet(x)
                             : pws_request_judge(&x->request, &x->engine->config->rules,
                                                 x->conn->trusted);

    if (status != 0) {
        return status;
    }
    x->raw_at = x->in_start + x->parser.at;
    if (x->request.body == PWS_BODY_NONE) {
        return complete(x, x->raw_at);
    }
    if (x->request.body == PWS_BODY_CHUNKED) {
        pws_chunked_init(&x->body.chunked);
    }
    if (!x->engine->config->request_buffering) {
        return begin_stream(x);
    }
    return x->request.body == PWS_BODY_CHUNKED ? decode_chunks(x, 0)
                                               : begin_length(x, x->in_end - x->raw_at);
}

/* Receive into the place that the store has for it. Returns like pws_io_recv, or the
 * status to refuse with, negated and below PWS_IO_MORE. */
static ssize_t
receive_length(pws_exchange *x)
{
    pws_body *body = &x->body;
    uint64_t left = x->request.length - body->size;
    size_t room;
    ssize_t n;
    char *block;
    int status;

    if (body->store == PWS_STORE_BUFFER) {
        /* What lies behind the body is the next request's. */
        n = receive(x, x->in + x->in_end, x->in_room - x->in_end);
        if (n > 0) {
            x->in_end += (uint32_t)n;
            body->size += (uint64_t)n < left ? (uint64_t)n : left;
        }
        return n;
    }
    if (body->store == PWS_STORE_MEMORY) {
        char *space = pws_body_space(body, &room);

        n = receive(x, space, room < left ? room : (size_t)left);
        pws_body_received(body, n > 0 ? (size_t)n : 0);
        return n;
    }
    block = pws_pool_take(&x->engine->blocks);
    if (block == NULL) {
        return PWS_IO_ERROR;
    }
    n = receive(x, block, left < PWS_BLOCK_SIZE ? (size_t)left : PWS_BLOCK_SIZE);
    if (n > 0 &&
        (status = pws_body_add(body, &x->engine->bodies, block, (size_t)n)) != 0) {
        n = -storage_failed(x, status);
    }
    pws_pool_give(&x->engine->blocks, block);
    return n;
}

static int
body_by_length(pws_exchange *x)
{
    uint64_t turn = 0;

    while (x->body.size < x->request.length) {
        ssize_t n;

        if (turn >= TURN_MAX) {
            return PWS_INTAKE_MORE;
        }
        n = receive_length(x);
        if (n < PWS_IO_MORE) {
            return (int)-n;
        }
        if (n <= 0) {
            return without_bytes(n);
        }
        turn += (uint64_t)n;
    }
    return complete(x, x->body.store == PWS_STORE_BUFFER
                           ? x->raw_at + (uint32_t)x->request.length
                           : x->raw_at);
}

/* Where chunked bytes can be received to stay, and how many; 0: they have to be copied.
 * What comes behind the body must have room where the next request is looked for. */
static size_t
place_for_chunks(pws_exchange *x, char **place)
{
    uint64_t most = x->body.chunked.left + (x->in_room - x->raw_at);
    size_t room;

    if (x->body.store != PWS_STORE_MEMORY) {
        return 0;
    }
    *place = pws_body_space(&x->body, &room);
    if (room < CHUNK_ROOM) {
        return 0;
    }
    return room < most ? room : (size_t)most;
}

/* Decode the `len` bytes at `place`. */
static int
decode_in_place(pws_exchange *x, char *place, size_t len)
{
    pws_body *body = &x->body;
    size_t used, made;
    int status = pws_chunked_decode(&body->chunked, &x->engine->config->rules, place,
                                    len, &used, &made);

    if (status != 0) {
        return pws_refuse(&x->request, status, body->chunked.refusal);
    }
    pws_body_received(body, made);
    if (body->chunked.state != PWS_CHUNK_DONE) {
        return PWS_INTAKE_AGAIN;
    }
    memcpy(x->in + x->raw_at, place + used, len - used);
    x->in_end = x->raw_at + (uint32_t)(len - used);
    return complete(x, x->raw_at);
}

static int
body_by_chunks(pws_exchange *x)
{
    uint64_t turn = 0;

    while (turn < TURN_MAX) {
        char *place = NULL;
        size_t room;
        ssize_t n;
        int rc;

        if (make_room(x, CHUNK_ROOM) < 0) {
            return PWS_INTAKE_ERROR;
        }
        room = place_for_chunks(x, &place);
        n = room > 0 ? receive(x, place, room)
                     : receive(x, x->in + x->in_end, x->in_room - x->in_end);
        if (n <= 0) {
            return without_bytes(n);
        }
        turn += (uint64_t)n;
        rc = room > 0 ? decode_in_place(x, place, (size_t)n)
                      : decode_chunks(x, (uint32_t)n);
        if (rc != PWS_INTAKE_AGAIN) {
            return rc;
        }
    }
    return PWS_INTAKE_MORE;
}

int
pws_intake_body(pws_exchange *x)
{
    return x->request.body == PWS_BODY_CHUNKED ? body_by_chunks(x) : body_by_length(x);
}

/* Make decoded bytes of the raw ones that are there. Returns DONE when there are some
 * or the end was found, AGAIN when more raw bytes are needed. */
static int
stream_buffered(pws_exchange *x)
{
    pws_body *body = &x->body;
    uint32_t have = x->in_end - x->raw_at;
    size_t used = have, made = have;

    if (x->request.body == PWS_BODY_LENGTH) {
        if (have > x->request.length - body->size) {
            used = made = (size_t)(x->request.length - body->size);
        }
    }
    else {
        int status = pws_chunked_decode(&body->chunked, &x->engine->config->rules,
                                        x->in + x->raw_at, have, &used, &made);

        if (status != 0) {
            return pws_refuse(&x->request, status, body->chunked.refusal);
        }
    }
    body->buffer_at = x->raw_at;
    body->size += made;
    x->raw_at += (uint32_t)used;
    if (x->request.body == PWS_BODY_LENGTH ? body->size == x->request.length
                                           : body->chunked.state == PWS_CHUNK_DONE) {
        return complete(x, x->raw_at);
    }
    return made > 0 ? PWS_INTAKE_DONE : PWS_INTAKE_AGAIN;
}

int
pws_intake_stream(pws_exchange *x)
{
    for (;;) {
        ssize_t n;

        if (x->in_end > x->raw_at) {
            int rc = stream_buffered(x);

            if (rc != PWS_INTAKE_AGAIN) {
                return rc;
            }
        }
        x->in_end = x->raw_at = x->in_start + x->parser.at;
        n = receive(x, x->in + x->in_end, x->in_room - x->in_end);
        if (n <= 0) {
            return without_bytes(n);
        }
        x->in_end += (uint32_t)n;
    }
}

void
pws_intake_next(pws_exchange *x)
{
    pws_body_reset(&x->body, &x->engine->bodies);
    pws_request_reset(&x->request);
    pws_head_init(&x->parser);
    x->in_start = x->in_next;
    if (x->in_start == x->in_end) {
        x->in_start = x->in_end = 0;
    }
}

void
pws_intake_shrink(pws_exchange *x)
{
    uint32_t len = x->in_end - x->in_start;

    if (!x->in_pooled) {
        return;
    }
    if (len == 0) {
        pws_intake_give_buffer(x);
        x->in_start = x->in_end = 0;
    }
    else if (len < PWS_BLOCK_SIZE / 4) {
        (void)move_buffer(x, len * 2 < SMALL_ROOM ? SMALL_ROOM : len * 2);
    }
}

void
pws_intake_fit(pws_exchange *x)
{
    uint32_t len = x->in_end - x->in_start;

    if (len > 0 && len < x->in_room && len < PWS_BLOCK_SIZE / 4) {
        (void)move_buffer(x, len);
    }
}
