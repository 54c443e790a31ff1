#include "engine/accept.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/evict.h"

/* Accepts after which a listener goes to the end of the kernel's queue of waiters: else
 * one of several workers would get everything at low load. */
#define ACCEPTS_A_TURN 16

/* Connections that are accepted in one look while they come in crowds. */
#define CROWD 8

/* After so many connections in a row whose request did not come with them, a listener's
 * may be left unread, but for one in some. */
#define SILENT_MAX 8
#define TRY_EVERY 16

/* For how long one may be left so while later ones are read. */
#define UNREAD_MS 10

/* How long no accept is tried after one has failed for want of descriptors or memory.
 */
#define ACCEPT_PAUSE_MS 250

#define INDEX_MASK 0xffffu

/* The key says the place among this engine's listeners; `index` counts those of the
 * server. */
static int
watch(pws_engine *e, const pws_listener *l)
{
    uint64_t place = (uint64_t)(l - e->listeners);

    return pws_poller_add_listener(&e->poller, l->fd, PWS_LISTENER_KEY | place);
}

/* Some listener is not in the set: try again a little later. */
static void
pause_accepting(pws_engine *e)
{
    e->accepting = false;
    e->accept_again_ms = e->clock.now_ms + ACCEPT_PAUSE_MS;
}

static bool
is_in(const pws_network *networks, uint32_t count, const pws_peer *peer)
{
    for (uint32_t i = 0; i < count; i++) {
        if (pws_network_has(&networks[i], peer)) {
            return true;
        }
    }
    return false;
}

static bool
is_trusted(const pws_engine_config *config, const pws_conn *c)
{
    return config->trust_all || pws_listener_is_unix(c->listener) ||
           is_in(config->trusted, config->trusted_count, &c->peer);
}

/* Who speaks uwsgi to us says who the client is, so not everybody may. A Unix socket
 * has its mode for that. */
static bool
is_barred(const pws_engine_config *config, const pws_conn *c)
{
    return c->listener->protocol == PWS_PROTOCOL_UWSGI && !config->admit_all &&
           !pws_listener_is_unix(c->listener) &&
           !is_in(config->admitted, config->admitted_count, &c->peer);
}

/* While turns are short, many are in one tick of the clock. */
static bool
has_looked_in_tick(const pws_engine *e)
{
    return e->clock.now_ms == e->looked_ms;
}

/* Whether a new connection may be left unread: not where it would wait at once behind
 * requests that are later, or because nobody polls. */
static bool
may_wait(const pws_engine *e)
{
    return e->accepting && e->queue_first == NULL && has_looked_in_tick(e);
}

/* Whether to look for the request of a new connection that may wait: where most have
 * not come yet, that would be in vain. */
static bool
may_have_request(const pws_engine *e, pws_listener *l)
{
    return e->unread_count == PWS_UNREAD_MAX || l->silent < SILENT_MAX ||
           ++l->silent % TRY_EVERY == 0;
}

/* Forget those that somebody has read meanwhile, and read those that were left for too
 * long. */
static void
sift_unread(pws_engine *e)
{
    unsigned count = e->unread_count, left = 0;

    e->sifted_ms = e->clock.now_ms;
    for (unsigned i = 0; i < count; i++) {
        const pws_unread *u = &e->unread[i];
        pws_conn *c = e->slots[u->slot].conn;

        if (c == NULL || c->generation != u->generation || c->state != PWS_CONN_IDLE ||
            c->served) {
            continue;
        }
        if (e->clock.now_ms - c->since_ms < UNREAD_MS) {
            e->unread[left++] = *u;
        }
        else {
            pws_conn_resume(e, c);
        }
    }
    e->unread_count = left;
}

/* One that has just been accepted. */
static void
begin(pws_engine *e, pws_listener *l, pws_conn *c)
{
    bool look = !may_wait(e) || may_have_request(e, l);

    pws_conn_begin(e, c, look);
    if (!look) {
        e->unread[e->unread_count++] = (pws_unread){c->slot, c->generation};
        return;
    }
    l->silent = c->state == PWS_CONN_IDLE ? l->silent + 1 : 0;
}

static void
adopt_socket(pws_engine *e, pws_listener *l, int fd, const pws_peer *peer)
{
    pws_conn *c = pws_pool_take(&e->conns);

    if (c == NULL) {
        close(fd);
        return;
    }
    memset(c, 0, sizeof(*c));
    c->timer.deadline_ms = PWS_NEVER;
    c->listener = l;
    c->fd = fd;
    c->since_ms = e->clock.now_ms;
    c->slot = e->free_slots[--e->free_count];
    c->generation = e->slots[c->slot].generation;
    c->peer = *peer;
    c->trusted = is_trusted(e->config, c);
    c->barred = is_barred(e->config, c);
    e->slots[c->slot].conn = c;
    e->accepted++;
    begin(e, l, c);
}

/* Returns 1 after an accepted connection, 0 when none waits, -1 with errno when
 * accepting must pause. */
static int
accept_one(pws_engine *e, pws_listener *l)
{
    pws_peer peer;
    socklen_t len = sizeof(peer);
    int fd;

    memset(&peer, 0, sizeof(peer));
    do {
        fd = accept4(l->fd, &peer.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED || errno == EPROTO));
    if (fd >= 0) {
        adopt_socket(e, l, fd, &peer);
        return 1;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
}

static bool
is_full(const pws_engine *e)
{
    return pws_engine_open(e) >= e->config->worker_connections;
}

int
pws_accept_watch(pws_engine *e, pws_listener *l)
{
    if (watch(e, l) < 0) {
        return -1;
    }
    l->polled = true;
    return 0;
}

int
pws_accept_start(pws_engine *e)
{
    for (unsigned i = 0; i < e->listener_count; i++) {
        pws_listener *l = &e->listeners[i];

        if (l->fd >= 0 && !l->polled && pws_accept_watch(e, l) < 0) {
            return -1;
        }
    }
    e->accepting = true;
    e->accept_again_ms = PWS_NEVER;
    return 0;
}

void
pws_accept_stop(pws_engine *e)
{
    uint32_t spare = PWS_ACCEPT_SLACK;

    e->accepting = false;
    for (unsigned i = 0; i < e->listener_count; i++) {
        pws_listener *l = &e->listeners[i];

        if (l->polled) {
            pws_poller_remove(&e->poller, l->fd);
            l->polled = false;
            while (spare > 0 && e->free_count > 0 && accept_one(e, l) == 1) {
                spare--;
            }
        }
    }
}

/* Asks the kernel, as accept() fails for want of descriptors before it looks. */
static bool
somebody_waits(const pws_listener *l)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};

    return poll(&p, 1, 0) != 0;
}

bool
pws_accept_empty(pws_engine *e, pws_listener *l)
{
    int rc = 1;

    if (l->polled) {
        pws_poller_remove(&e->poller, l->fd);
        l->polled = false;
    }
    while (rc == 1 && e->free_count > 0) {
        rc = accept_one(e, l);
    }
    return rc == 0 || !somebody_waits(l);
}

void
pws_accept_end(pws_engine *e)
{
    e->accepting = false;
    e->accept_again_ms = PWS_NEVER;
    e->unclosed = 0;
    for (unsigned i = 0; i < e->listener_count; i++) {
        pws_listener *l = &e->listeners[i];

        if (l->fd < 0) {
            continue;
        }
        if (pws_accept_empty(e, l)) {
            pws_listener_close(l);
        }
        else {
            e->unclosed++;
        }
    }
    if (e->unclosed > 0 && e->free_count > 0) { /* else the next free place is a sign */
        e->accept_again_ms = e->clock.now_ms + ACCEPT_PAUSE_MS;
    }
}

/* Put it at the end of the kernel's queue of waiters. */
static void
requeue(pws_engine *e, pws_listener *l)
{
    pws_poller_remove(&e->poller, l->fd);
    l->polled = watch(e, l) == 0;
    if (!l->polled) {
        pause_accepting(e);
    }
}

/* The kernel offers a connection to one of those that wait (EPOLLEXCLUSIVE), which we
 * do not: while the executor is in the app nobody waits in our set. It passes us by,
 * and leaves us a note, which is gone with the registration. */
void
pws_accept_suspend(pws_engine *e)
{
    e->suspended = true;
    if (e->accepting) {
        e->accept_again_ms = e->clock.now_ms; /* what goes on then is no pause */
    }
    e->accepting = false;
    for (unsigned i = 0; i < e->listener_count; i++) {
        pws_listener *l = &e->listeners[i];

        if (l->polled) {
            pws_poller_remove(&e->poller, l->fd);
            l->polled = false;
        }
    }
}

void
pws_accept_leave(pws_engine *e)
{
    pws_accept_suspend(e);
    for (unsigned i = 0; i < e->listener_count; i++) {
        pws_listener_leave(&e->listeners[i]);
    }
    e->elsewhere = true;
}

void
pws_accept_look(pws_engine *e)
{
    for (unsigned i = 0; i < e->listener_count; i++) {
        if (e->listeners[i].polled) {
            requeue(e, &e->listeners[i]);
        }
    }
}

void
pws_accept_resume(pws_engine *e)
{
    e->suspended = false;
    pws_accept_again(e);
}

/* Others may be idle while we are not. */
static bool
has_rivals(const pws_engine *e)
{
    const _Atomic uint32_t *rivals = e->config->rivals;

    return rivals != NULL && atomic_load_explicit(rivals, memory_order_relaxed) > 1;
}

/* Returns as accept_one; in 0 and -1, too, it is done with. */
static int
take_next(pws_engine *e, pws_listener *l)
{
    int rc;

    if (is_full(e) && pws_evict_for_slot(e) == 0) {
        pws_accept_stop(e);
        pause_accepting(e);
        return -1;
    }
    rc = accept_one(e, l);
    if (rc < 0 && (errno == EMFILE || errno == ENFILE) && pws_evict_for_slot(e) > 0) {
        rc = accept_one(e, l);
    }
    if (rc < 0) {
        if (!e->accept_failing) {
            pws_log_limited(PWS_LOG_RESOURCES, PWS_LOG_ERROR,
                            "accept: %s (fd %d); trying again", strerror(errno), l->fd);
        }
        e->accept_failing = true;
        pws_accept_stop(e);
        pause_accepting(e);
        return -1;
    }
    e->accept_failing = false;
    if (rc == 1 && ++l->accepted % ACCEPTS_A_TURN == 0 && has_rivals(e)) {
        requeue(e, l);
    }
    return rc;
}

/* How many connections are taken now. While turns are short, one in each, or some if
 * there was more than one at the last look that could tell: that saves most of the
 * turns. But when time has passed since the last look, some may have gathered, and
 * those whom we serve already are not to go first for longer than that: all, or, where
 * siblings may be idle sooner than we are, one for each request that was handed out
 * meanwhile. */
static uint32_t
share(const pws_engine *e, const pws_listener *l)
{
    bool alone = !has_rivals(e);

    if (has_looked_in_tick(e)) {
        return alone && l->crowded ? CROWD : 1;
    }
    return alone ? UINT32_MAX : e->handed_out;
}

void
pws_accept_event(pws_engine *e, uint64_t key)
{
    pws_listener *l = &e->listeners[key & INDEX_MASK];
    uint32_t most = share(e, l), taken = 0;

    if (e->sifted_ms != e->clock.now_ms) {
        sift_unread(e); /* before later ones are read */
    }
    while (l->polled && take_next(e, l) == 1 && ++taken < most) {
    }
    if (most > 1) {
        l->crowded = taken > 1;
    }
}

void
pws_accept_looked(pws_engine *e, uint32_t coming)
{
    if (e->accepting) {
        e->handed_out = 0;
        e->look_after = e->queued + coming;
        e->looked_ms = e->clock.now_ms;
    }
}

void
pws_accept_in_turn(pws_engine *e)
{
    for (unsigned i = 0; e->accepting && i < e->listener_count; i++) {
        pws_accept_event(e, i);
    }
    pws_accept_looked(e, 0);
}

void
pws_accept_again(pws_engine *e)
{
    if (e->accepting || e->suspended) {
        return;
    }
    if (e->drained) {
        if (e->unclosed > 0 && e->free_count > 0 &&
            (e->accept_again_ms == PWS_NEVER ||
             e->clock.now_ms >= e->accept_again_ms)) {
            pws_accept_end(e);
        }
        return;
    }
    if ((e->accept_failing || is_full(e)) && e->clock.now_ms < e->accept_again_ms) {
        return;
    }
    if (pws_accept_start(e) < 0) {
        pause_accepting(e);
    }
}
