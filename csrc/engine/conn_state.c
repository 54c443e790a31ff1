#include "engine/conn_state.h"

#include <unistd.h>

#include "base/forks.h"
#include "base/log.h"
#include "engine/engine_queue.h"
#include "engine/io.h"

/* How long the end of a connection is waited for, in all. */
#define LINGER_MS 5000

/* How long an engine that is to end waits for the next request of an idle connection.
 */
#define DRAIN_IDLE_MS 5000

/* When, and with how much sent, a new state begins: what eviction goes by. */
static void
note_beginning(const pws_engine *e, pws_conn *c, pws_conn_state state)
{
    if (c->state == state || (c->state == PWS_CONN_HEAD && state == PWS_CONN_BODY)) {
        return;
    }
    c->since_ms = e->clock.now_ms;
    if (state == PWS_CONN_SENDING) {
        c->x->sent_before = c->x->sent;
    }
}

void
pws_conn_set_state(pws_engine *e, pws_conn *c, pws_conn_state state)
{
    const pws_engine_config *config = e->config;
    int64_t wait_ms = 0;

    note_beginning(e, c, state);
    c->state = state;
    switch (state) {
    case PWS_CONN_IDLE:
        wait_ms = c->served ? config->keepalive_ms : config->header_timeout_ms;
        if (atomic_load_explicit(&e->draining, memory_order_relaxed) &&
            (wait_ms <= 0 || wait_ms > DRAIN_IDLE_MS)) {
            wait_ms = DRAIN_IDLE_MS;
        }
        break;
    case PWS_CONN_HEAD:
        wait_ms = config->header_timeout_ms;
        break;
    case PWS_CONN_BODY:
        wait_ms = config->body_timeout_ms;
        break;
    case PWS_CONN_SENDING:
        wait_ms = config->send_timeout_ms;
        break;
    case PWS_CONN_LINGER:
        wait_ms = LINGER_MS;
        break;
    case PWS_CONN_QUEUED:
    case PWS_CONN_APP:
    case PWS_CONN_CLOSED:
        break;
    }
    pws_timers_set(&e->timers, &c->timer,
                   wait_ms > 0 ? e->clock.now_ms + wait_ms : PWS_NEVER);
}

static uint64_t
key_of(const pws_conn *c)
{
    return (uint64_t)c->generation << 32 | c->slot;
}

int
pws_conn_poll(pws_engine *e, pws_conn *c)
{
    if (atomic_load_explicit(&c->polled, memory_order_relaxed) ||
        atomic_exchange(&c->polled, true)) {
        return 0;
    }
    if (pws_poller_add_conn(&e->poller, c->fd, key_of(c)) < 0) {
        atomic_store(&c->polled, false);
        pws_log_limited(PWS_LOG_RESOURCES, PWS_LOG_ERROR,
                        "epoll_ctl: cannot watch fd %d", c->fd);
        return -1;
    }
    return 0;
}

void
pws_conn_poll_anew(pws_engine *e, pws_conn *c)
{
    if (atomic_load(&c->polled)) {
        pws_poller_see_anew(&e->poller, c->fd, key_of(c));
    }
    else {
        (void)pws_conn_poll(e, c);
    }
}

/* The client sees an error instead of the end. Unlike closing with SO_LINGER it works
 * when a child of the app has a copy of the socket; it does not for a Unix socket. */
static void
reset(int fd)
{
    const struct sockaddr nobody = {.sa_family = AF_UNSPEC};

    if (connect(fd, &nobody, sizeof(nobody)) < 0) {
        (void)shutdown(fd, SHUT_RDWR);
    }
}

/* Somebody else may have a copy of the socket: closing alone would end neither the
 * registration nor the connection. */
static void
close_copied(pws_engine *e, const pws_conn *c, pws_close how)
{
    if (c->polled) {
        pws_poller_remove(&e->poller, c->fd);
    }
    if (how == PWS_CLOSE_RESET) {
        reset(c->fd);
    }
    else if (how == PWS_CLOSE_BOTH_WAYS) {
        (void)shutdown(c->fd, SHUT_RDWR);
    }
    close(c->fd);
}

void
pws_conn_close(pws_engine *e, pws_conn *c, pws_close how)
{
    if (c->state == PWS_CONN_CLOSED) {
        return;
    }
    if (c->x != NULL) {
        pws_engine_give_exchange(e, c->x);
        c->x = NULL;
    }
    if (how != PWS_CLOSE_BOTH_WAYS || !pws_forks_close(c->fd)) {
        close_copied(e, c, how);
    }
    c->polled = false;
    c->fd = -1;
    pws_conn_set_state(e, c, PWS_CONN_CLOSED);
    pws_engine_forget(e, c);
}

void
pws_conn_await(pws_engine *e, pws_conn *c, pws_conn_state state)
{
    if (c->state != state) {
        pws_conn_set_state(e, c, state);
    }
    if (pws_conn_poll(e, c) < 0) {
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
    }
}

void
pws_conn_drain(pws_engine *e, pws_conn *c)
{
    char *block = pws_pool_take(&e->blocks);
    ssize_t n = PWS_IO_ERROR;

    for (int i = 0; block != NULL && i < 16; i++) {
        n = pws_io_recv(c->fd, block, PWS_BLOCK_SIZE);
        if (n <= 0) {
            break;
        }
    }
    pws_pool_give(&e->blocks, block);
    if (n > 0) {
        pws_engine_make_ready(e, c);
    }
    else if (n != PWS_IO_AGAIN) {
        pws_conn_close(e, c, PWS_CLOSE_BOTH_WAYS);
    }
}

static void
begin_linger(pws_engine *e, pws_conn *c)
{
    (void)shutdown(c->fd, SHUT_WR);
    pws_engine_give_exchange(e, c->x);
    c->x = NULL;
    pws_conn_await(e, c, PWS_CONN_LINGER);
    if (c->state == PWS_CONN_LINGER) {
        pws_conn_drain(e, c);
    }
}

void
pws_conn_end(pws_engine *e, pws_conn *c)
{
    const pws_exchange *x = c->x;
    bool cut = x->answer == PWS_ANSWER_CUT;
    uint32_t events = atomic_load_explicit(&c->events, memory_order_relaxed);
    bool more_may_come = x->linger || x->request.keep_alive ||
                         (x->body.complete && x->in_next < x->in_end);

    /* Where a read took all that was asked for, there may be more. */
    if (cut || (events & PWS_BROKEN) != 0 ||
        (!more_may_come &&
         ((events & PWS_READABLE) == 0 || !pws_io_has_bytes(c->fd)))) {
        /* Only a reset tells a client that reads until the end that this is not the
         * end. */
        pws_conn_close(e, c,
                       cut && x->frame == PWS_FRAME_CLOSE ? PWS_CLOSE_RESET
                                                          : PWS_CLOSE_BOTH_WAYS);
        return;
    }
    begin_linger(e, c);
}
