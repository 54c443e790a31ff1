/* Many clients and apps that do whatever comes to their mind: nothing may leak, and
 * whoever behaves is answered. */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/io.h"

#define PEERS 24
#define HELD 16

static rig r;
static peer peers[PEERS];
static bool open_[PEERS];
static pws_exchange *held[HELD];
static char bytes[400000];
static int references, file;

static size_t
random_below(size_t n)
{
    return (size_t)rand() % n;
}

#define POST(target) "POST " target " HTTP/1.1\r\nHost: x\r\n"
#define GET(target) "GET " target " HTTP/1.1\r\nHost: x\r\n\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n\r\n"

/* Something that a client may send: good, bad, or a part of it. */
static size_t
random_input(char *at, size_t room)
{
    static const char *const inputs[] = {
        GET("/a"),
        GET("/b") GET("/c"),
        POST("/d") "Content-Length: 5\r\n\r\nhello",
        POST("/e") CHUNKED "3\r\nabc\r\n0\r\n\r\n",
        POST("/f") "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        "GET /g HTTP/1.0\r\n\r\n",
        "GET /h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "HEAD /i HTTP/1.1\r\nHost: x\r\n\r\n",
        "nonsense\r\n\r\n",
        POST("/j") CHUNKED "zz\r\n",
    };
    size_t kind = random_below(12), len = 0, body;

    if (kind < 10) {
        len = (size_t)snprintf(at, room, "%s", inputs[kind]);
    }
    else if (kind == 10) {
        body = random_below(300000);
        len =
            (size_t)snprintf(at, room, POST("/k") "Content-Length: %zu\r\n\r\n", body);
        memset(at + len, 'k', body);
        len += body;
    }
    while (kind == 11 && len < 3000) {
        len += (size_t)snprintf(at + len, room - len, GET("/l"));
    }
    return rand() % 4 == 0 ? random_below(len + 1) : len;
}

static void
act_as_client(size_t i)
{
    static char input[400000];
    peer *p = &peers[i];

    if (!open_[i]) {
        peer_connect(p, &r, (unsigned)random_below(2));
        open_[i] = true;
        return;
    }
    switch (rand() % 12) {
    case 0:
        peer_reset(p);
        open_[i] = false;
        return;
    case 1:
        peer_close(p);
        open_[i] = false;
        return;
    case 2:
        (void)shutdown(p->fd, SHUT_WR);
        return;
    case 3:
    case 4:
    case 5:
        peer_receive(p);
        p->at = p->len;
        if (p->eof || p->error != 0) {
            peer_close(p);
            open_[i] = false;
        }
        return;
    default:
        (void)send(p->fd, input, random_input(input, sizeof(input)),
                   MSG_DONTWAIT | MSG_NOSIGNAL);
        return;
    }
}

/* One step of an app; the exchange may be given back by it. */
static bool
act_as_app(pws_exchange *x)
{
    static const uint64_t lengths[] = {0, 5, 100000, 400000, PWS_LENGTH_UNKNOWN};
    char got[5000];
    const char *why;

    switch (rand() % 10) {
    case 0:
        (void)pws_exchange_start(x, PWS_SLICE("200 OK"), NULL, 0, lengths[rand() % 5],
                                 &why);
        return false;
    case 1:
    case 2: {
        size_t len = rand() % 2 == 0 ? random_below(100) : random_below(sizeof(bytes));

        references++;
        if (pws_exchange_write(x, bytes, len, &references) != 1) {
            references--;
        }
        return false;
    }
    case 3:
        (void)pws_exchange_send_file(x, file, random_below(1000), random_below(200000));
        return false;
    case 4:
        (void)pws_exchange_flush(x);
        return false;
    case 5:
        (void)pws_exchange_read(x, got, sizeof(got));
        return false;
    case 6:
        if (rand() % 20 == 0) {
            (void)pws_exchange_answer(x, 504);
        }
        return false;
    case 7:
        if (rand() % 20 == 0) {
            int fd = pws_exchange_detach(x);

            if (fd >= 0) {
                close(fd);
                break;
            }
        }
        return false;
    default:
        if (pws_exchange_finish(x) < 0 && rand() % 2 == 0) {
            (void)pws_exchange_refuse(x, 500);
        }
        break;
    }
    (void)pws_exchange_own_files(x);
    pws_exchange_done(x);
    return true;
}

static void
act_as_server(void)
{
    size_t i = random_below(HELD);

    if (held[i] == NULL) {
        held[i] = pws_engine_next(&r.engine);
    }
    else if (act_as_app(held[i])) {
        held[i] = NULL;
    }
    if (rand() % 3 == 0) {
        CHECK(pws_engine_poll(&r.engine, (uint32_t)(1 + rand() % 8), 0) >= 0);
    }
    if (held[i] != NULL && rand() % 50 == 0) {
        CHECK(rig_wait(held[i], PWS_READABLE | PWS_WRITABLE, 1) <= 1);
    }
    (void)rig_release(&r);
}

static void
end_storm(void)
{
    for (size_t i = 0; i < PEERS; i++) {
        if (open_[i]) {
            peer_close(&peers[i]);
        }
        open_[i] = false;
    }
    for (size_t i = 0; i < HELD; i++) {
        while (held[i] != NULL && !act_as_app(held[i])) {
        }
        held[i] = NULL;
    }
    r.serve = true;
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    (void)rig_release(&r);
    CHECK_EQ(references, 0);
}

static void
storm(unsigned seed)
{
    static const _Atomic uint32_t rivals = 2;

    srand(seed);
    rig_prepare(&r);
    r.listener_count = 2;
    r.local = seed % 2 == 0;
    r.config.request_buffering = seed % 3 != 0;
    r.config.worker_connections = 20;
    r.config.rivals = seed % 5 == 0 ? &rivals : NULL;
    r.config.hosted = seed % 7 == 0;
    r.config.keepalive_ms = r.config.header_timeout_ms = r.config.body_timeout_ms = 300;
    rig_open(&r);
    file = open(r.dir, O_TMPFILE | O_RDWR, 0600);
    CHECK_EQ(write(file, bytes, 150000), 150000);
    for (int step = 0; step < 20000; step++) {
        if (rand() % 3 == 0) {
            act_as_client(random_below(PEERS));
        }
        else {
            act_as_server();
        }
    }
    end_storm();
    peer_connect(&peers[0], &r, 0);
    peer_send(&peers[0], request("GET", "/calm", ""));
    CHECK_EQ(peer_response(&peers[0]), 200);
    CHECK_BODY(&peers[0], "/calm");
    peer_close(&peers[0]);
    close(file);
    rig_close(&r);
}

TEST(a_storm_leaves_nothing_behind)
{
    for (unsigned seed = 1; seed <= 8; seed++) {
        storm(seed);
    }
}
