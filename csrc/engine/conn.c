#include "engine/conn.h"

#include "base/log.h"
#include "engine/conn_state.h"
#include "engine/engine_queue.h"
#include "engine/exchange.h"
#include "engine/intake.h"
#include "engine/io.h"
#include "proto/uwsgi.h"

/* Responses to pipelined requests that go out in one send. */
#define GATHER_MAX 16
#define GATHER_BYTES (48u * 1024)

/* After that, and a tick of the timers at most, those that are made do not wait for the
 * next one any longer. */
#define GATHER_MS 10

/* Something can be read, be it the end. */
#define INPUT (PWS_READABLE | PWS_PEER_DONE | PWS_BROKEN)

static bool
has_input(const pws_conn *c)
{
    return (atomic_load_explicit(&c->events, memory_order_relaxed) & INPUT) != 0;
}

/* Wait in `state` for bytes. What was noted while nobody read is acted on next turn. */
static void
await_input(pws_engine *e, pws_conn *c, pws_conn_state state)
{
    pws_conn_await(e, c, state);
    if (c->state == state && has_input(c)) {
        pws_engine_make_ready(e, c);
    }
}

static void
become_idle(pws_engine *e, pws_conn *c)
{
    if (c->x != NULL) {
        pws_engine_give_exchange(e, c->x);
        c->x = NULL;
    }
    await_input(e, c, PWS_CONN_IDLE);
}

static void
await_head(pws_engine *e, pws_conn *c)
{
    pws_exchange *x = c->x;

    if (x->in_end == x->in_start) {
        become_idle(e, c);
        return;
    }
    pws_intake_shrink(x);
    pws_conn_await(e, c, PWS_CONN_HEAD);
}

static void
invite_body(pws_engine *e, pws_conn *c)
{
    pws_exchange *x = c->x;

    if (!x->request.expect_continue || x->body.size > 0) {
        return;
    }
    x->request.expect_continue = false;
    if (x->out.block == NULL) {
        x->out.block = pws_pool_take(&e->blocks);
    }
    if (pws_output_copy(&x->out, "HTTP/1.1 100 Continue\r\n\r\n", 25) == 0) {
        (void)pws_exchange_flush(x); /* what does not fit goes out with the response */
    }
}

/* The output is empty and the connection goes on with the next request, of which
 * something may be there. It does so in the next turn, even when a whole request is
 * there: a client that sends without end must not keep the poller from the others. */
static void
read_on(pws_engine *e, pws_conn *c)
{
    pws_exchange *x = c->x;
    bool unseen = x->parser.seen < x->in_end - x->in_start;

    if (x->parser.stage == PWS_HEAD_DONE) {
        pws_conn_set_state(e, c, PWS_CONN_BODY);
        invite_body(e, c);
        await_input(e, c, PWS_CONN_BODY);
    }
    else if (x->in_start < x->in_end && (unseen || has_input(c))) {
        pws_conn_set_state(e, c, PWS_CONN_HEAD);
        pws_engine_make_ready(e, c);
    }
    else {
        await_head(e, c);
    }
}

/* Send what waits, then go on as the exchange says. */
static void
deliver(pws_engine *e, pws_conn *c)
{
    pws_exchange *x = c->x;
    uint64_t had = x->sent;
    int rc = pws_output_send(&x->out, c->fd, &x->sent);

    switch (rc) {
    case 0:
        x->answered = 0;
        if (x->keep) {
            read_on(e, c);
        }
        else {
            pws_conn_end(e, c);
        }
        return;
    case PWS_IO_AGAIN:
        if (!x->keep || x->in_start == x->in_end) {
            x->linger = x->linger || (x->body.complete && x->in_next < x->in_end);
            x->in_start = x->in_end = x->in_next = 0;
            pws_intake_shrink(x);
        }
        if (x->out.at == x->out.end) {
            pws_pool_give(&e->blocks, x->out.block);
            x->out.block = NULL;
        }
        if (x->sent > had) {
            pws_conn_set_state(e, c, PWS_CONN_SENDING);
        }
        pws_conn_await(e, c, PWS_CONN_SENDING);
        return;
    case PWS_IO_MORE:
        pws_conn_set_state(e, c, PWS_CONN_SENDING);
        pws_engine_make_ready(e, c);
        return;
    default:
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
        return;
    }
}

/* Refuse the request in hand: nothing more of this connection is interpreted. */
static void
refuse(pws_engine *e, pws_conn *c, int status)
{
    pws_exchange *x = c->x;
    char host[PWS_HOST_ROOM];

    pws_peer_host(&c->peer, host);
    pws_log_limited(
        PWS_LOG_REFUSED, PWS_LOG_WARNING, "Invalid request from ip=%s: %s", host,
        x->request.refusal != NULL ? x->request.refusal : pws_reason(status));
    x->answer = PWS_ANSWER_NONE;
    atomic_store_explicit(&x->claim, PWS_CLAIM_NONE, memory_order_relaxed);
    if (x->out.block == NULL) {
        x->out.block = pws_pool_take(&e->blocks);
    }
    pws_exchange_refuse(x, status);
    if (e->config->access_log != NULL) {
        x->started.tv_sec = 0; /* no app has seen it */
        pws_exchange_drop_notes(x);
        pws_access_log_add(e->config->access_log, x, &e->clock);
    }
    deliver(e, c);
}

/* Not a byte of such a peer is looked at. */
static void
turn_away(pws_engine *e, pws_conn *c)
{
    c->x = pws_engine_take_exchange(e, c);
    if (c->x == NULL) {
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
        return;
    }
    refuse(e, c,
           pws_refuse(&c->x->request, 403,
                      "it may not speak uwsgi to us, see uwsgi_allow_ips"));
}

static void
answer_ping(pws_engine *e, pws_conn *c)
{
    pws_exchange *x = c->x;

    x->out.block = pws_pool_take(&e->blocks);
    x->answer = PWS_ANSWER_FINISHED;
    x->linger = true;
    if (pws_output_copy(&x->out, PWS_UWSGI_PONG.at, PWS_UWSGI_PONG.len) < 0) {
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
        return;
    }
    deliver(e, c);
}

static void
queue(pws_engine *e, pws_conn *c, bool front)
{
    pws_conn_set_state(e, c, PWS_CONN_QUEUED);
    pws_engine_queue(e, c->x, front);
}

/* The peer has closed its side in the middle of something. */
static void
cut_short(pws_engine *e, pws_conn *c)
{
    pws_exchange *x = c->x;

    if (c->state == PWS_CONN_BODY) {
        refuse(e, c,
               pws_refuse(&x->request, 400, "the body is shorter than announced"));
    }
    else {
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
    }
}

static void
read_body(pws_engine *e, pws_conn *c)
{
    pws_exchange *x = c->x;
    uint64_t had = x->body.size;
    int rc = pws_intake_body(x);

    switch (rc) {
    case PWS_INTAKE_DONE:
        queue(e, c, false);
        return;
    case PWS_INTAKE_AGAIN:
        if (x->body.store != PWS_STORE_BUFFER && x->request.body == PWS_BODY_LENGTH) {
            pws_intake_shrink(x);
        }
        if (x->body.size > had) {
            pws_conn_set_state(e, c, PWS_CONN_BODY);
        }
        pws_conn_await(e, c, PWS_CONN_BODY);
        return;
    case PWS_INTAKE_MORE:
        pws_conn_set_state(e, c, PWS_CONN_BODY);
        pws_engine_make_ready(e, c);
        return;
    case PWS_INTAKE_END:
        cut_short(e, c);
        return;
    case PWS_INTAKE_ERROR:
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
        return;
    default:
        refuse(e, c, rc);
        return;
    }
}

/* The head is complete. */
static void
begin_body(pws_engine *e, pws_conn *c)
{
    int rc = pws_intake_begin_body(c->x);

    if (rc == PWS_INTAKE_DONE) {
        queue(e, c, false);
    }
    else if (rc == PWS_INTAKE_AGAIN) {
        pws_conn_set_state(e, c, PWS_CONN_BODY);
        invite_body(e, c);
        read_body(e, c);
    }
    else {
        refuse(e, c, rc);
    }
}

static void
read_head(pws_engine *e, pws_conn *c)
{
    int rc = PWS_INTAKE_AGAIN;

    if (c->x == NULL) {
        c->x = pws_engine_take_exchange(e, c);
        if (c->x == NULL) {
            pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
            return;
        }
    }
    if (c->x->parser.seen < c->x->in_end - c->x->in_start) {
        /* Left from before. Nothing is received, so an event stays to be acted on. */
        atomic_fetch_or(&c->events, PWS_READABLE);
        rc = pws_intake_parse(c->x);
    }
    if (rc == PWS_INTAKE_AGAIN) {
        rc = pws_intake_head(c->x);
    }
    switch (rc) {
    case PWS_INTAKE_DONE:
        begin_body(e, c);
        return;
    case PWS_INTAKE_PING:
        answer_ping(e, c);
        return;
    case PWS_INTAKE_AGAIN:
        await_head(e, c);
        return;
    case PWS_INTAKE_END:
        cut_short(e, c);
        return;
    case PWS_INTAKE_ERROR:
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
        return;
    default:
        refuse(e, c, rc);
        return;
    }
}

/* A request that is wholly in the buffer needs no turn of the poller, and its response
 * can go out with the one before. Returns whether the connection has found its next
 * state. */
static bool
take_buffered(pws_engine *e, pws_conn *c)
{
    pws_exchange *x = c->x;
    int rc = pws_intake_parse(x);

    if (rc == PWS_INTAKE_DONE) {
        rc = pws_intake_begin_body(x);
    }
    if (rc == PWS_INTAKE_AGAIN) {
        return false;
    }
    if (rc == PWS_INTAKE_DONE) {
        queue(e, c, true);
    }
    else {
        refuse(e, c, rc);
    }
    return true;
}

/* The app is done with a body that was streamed: what of it has come is passed over.
 * Returns whether that was all of it. */
static bool
pass_over_body(pws_exchange *x)
{
    const uint64_t enough = x->body.taken + PWS_BLOCK_SIZE;
    pws_slice bytes;

    if (x->request.expect_continue) {
        return false; /* never invited, never sent */
    }
    while (x->body.taken < enough && pws_exchange_peek(x, &bytes) == 1) {
        pws_exchange_take(x, bytes.len);
    }
    return x->body.complete;
}

void
pws_conn_take_back(pws_engine *e, pws_conn *c)
{
    pws_exchange *x = c->x;

    c->served = true;
    pws_hold_end_request(e);
    if (pws_exchange_is_taken(x)) {
        x->answer = PWS_ANSWER_FINISHED;
        x->keep = false;
        x->linger = true;
    }
    else if (e->config->access_log != NULL) {
        pws_access_log_add(e->config->access_log, x, &e->clock);
    }
    if (x->answer == PWS_ANSWER_DETACHED) {
        pws_conn_close(e, c, PWS_CLOSE_OURS);
        return;
    }
    if (x->gone) {
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
        return;
    }
    if (x->answer != PWS_ANSWER_FINISHED) {
        pws_exchange_cut(x);
    }
    if (!x->body.complete && !pass_over_body(x)) {
        x->keep = false;
        x->linger = true;
    }
    x->answered++;
    if (x->keep) {
        pws_intake_next(x);
        if (x->in_start < x->in_end && x->answered < GATHER_MAX &&
            pws_hold_may_gather(&e->hold) && x->out.first == NULL &&
            x->out.end < GATHER_BYTES && take_buffered(e, c)) {
            return;
        }
    }
    if (!pws_hold_take(e, c)) {
        deliver(e, c);
    }
}

/* Responses to the requests before this one wait for its own to be sent with it. When
 * that takes long, or waits for the client, who polls sends them. */
static void
lend_gathered(pws_engine *e, pws_conn *c)
{
    if (c->x->out.pending > 0) {
        atomic_store(&c->x->lent, PWS_OUTPUT_LENT);
        pws_timers_set(&e->timers, &c->timer, e->clock.now_ms + GATHER_MS);
    }
}

/* A new line for the access log. */
static void
begin_log(pws_exchange *x)
{
    clock_gettime(CLOCK_MONOTONIC, &x->started);
    x->body_sent = 0;
    pws_exchange_drop_notes(x);
}

bool
pws_conn_give(pws_engine *e, pws_conn *c)
{
    pws_exchange *x = c->x;

    if ((atomic_load_explicit(&c->events, memory_order_relaxed) & PWS_BROKEN) != 0) {
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
        return false;
    }
    if (x->out.block == NULL) {
        x->out.block = pws_pool_take(&e->blocks);
    }
    if (x->out.block == NULL ||
        (x->body.store == PWS_STORE_STREAM && pws_conn_poll(e, c) < 0)) {
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
        return false;
    }
    atomic_store_explicit(&x->claim, PWS_CLAIM_NONE, memory_order_relaxed);
    x->answer = PWS_ANSWER_NONE;
    x->keep = x->linger = x->overrun = x->unreadable = false;
    x->frame = PWS_FRAME_NONE;
    x->status = x->body_status = 0;
    x->held_ms = 0;
    x->patient = pws_hold_offered(e, c);
    if (e->config->access_log != NULL) {
        begin_log(x);
    }
    pws_conn_set_state(e, c, PWS_CONN_APP);
    lend_gathered(e, c);
    return true;
}

void
pws_conn_begin(pws_engine *e, pws_conn *c, bool look)
{
    pws_conn_set_state(e, c, PWS_CONN_IDLE);
    if (c->barred) {
        turn_away(e, c);
    }
    else if (look || pws_conn_poll(e, c) < 0) {
        read_head(e, c);
    }
    else {
        become_idle(e, c);
    }
}

void
pws_conn_event(pws_engine *e, pws_conn *c, unsigned what)
{
    if ((what & (PWS_PEER_DONE | PWS_BROKEN)) != 0) {
        atomic_fetch_or(&c->events, what & (PWS_PEER_DONE | PWS_BROKEN));
    }
    switch (c->state) {
    case PWS_CONN_IDLE:
    case PWS_CONN_HEAD:
        if ((what & INPUT) != 0) {
            read_head(e, c);
        }
        return;
    case PWS_CONN_BODY:
        if ((what & INPUT) != 0) {
            read_body(e, c);
        }
        return;
    case PWS_CONN_QUEUED:
        atomic_fetch_or(&c->events, what);
        return;
    case PWS_CONN_APP:
        atomic_fetch_or(&c->events, what);
        if ((what & PWS_WRITABLE) != 0) {
            pws_exchange_send_on(c->x);
        }
        if (c->x->parked != NULL) {
            pws_park_event(e, c->x);
        }
        return;
    case PWS_CONN_SENDING:
        atomic_fetch_or(&c->events, what & ~(unsigned)PWS_WRITABLE);
        if ((what & (PWS_WRITABLE | PWS_BROKEN)) != 0) {
            deliver(e, c);
        }
        return;
    case PWS_CONN_LINGER:
        if ((what & INPUT) != 0) {
            pws_conn_drain(e, c);
        }
        return;
    case PWS_CONN_CLOSED:
        return;
    }
}

void
pws_conn_resume(pws_engine *e, pws_conn *c)
{
    switch (c->state) {
    case PWS_CONN_IDLE:
    case PWS_CONN_HEAD:
        read_head(e, c);
        return;
    case PWS_CONN_BODY:
        read_body(e, c);
        return;
    case PWS_CONN_SENDING:
        deliver(e, c);
        return;
    case PWS_CONN_LINGER:
        pws_conn_drain(e, c);
        return;
    case PWS_CONN_QUEUED:
    case PWS_CONN_APP:
    case PWS_CONN_CLOSED:
        return;
    }
}

void
pws_conn_hurry(pws_engine *e, pws_conn *c)
{
    if (c->state == PWS_CONN_IDLE) {
        pws_conn_set_state(e, c, PWS_CONN_IDLE);
    }
}

void
pws_conn_expired(pws_engine *e, pws_conn *c)
{
    pws_conn_state state = c->state;

    if (state == PWS_CONN_APP) {
        pws_exchange_send_on(c->x);
        pws_park_expired(e, c->x);
        return;
    }
    /* What has come while the app kept us busy is not late. */
    pws_conn_resume(e, c);
    if (c->state != state || c->timer.deadline_ms > e->clock.now_ms) {
        return;
    }
    if (state == PWS_CONN_HEAD || state == PWS_CONN_BODY) {
        refuse(e, c,
               pws_refuse(&c->x->request, 408,
                          state == PWS_CONN_HEAD ? "header_timeout is over"
                                                 : "body_timeout is over"));
    }
    else {
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
    }
}
